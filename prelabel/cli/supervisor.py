"""Runs a command that starts processes of its own, and leaves none of them behind.

Ray's processes end with the one that started them. HAProxy does not: when `serve run` ends by
anything but Ctrl-C (SIGTERM, a closed terminal, kill -9), it goes on listening on the service's
port. So the supervisor turns every signal to end into the one Ctrl-C that `serve run` understands,
and ends what is left when that has gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_STOP_S = 90.0  # above the graceful_shutdown_timeout_s of all deployments
_INSISTS_AFTER_S = 1.0  # a signal to the whole group can arrive twice: make passes it on, too
_LOOKS_EVERY_S = 1.0
# What is done with processes that are left, and for how long it may take.
_LEFT = ((None, 3.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


def supervise(command: Sequence[str | Path]) -> int:
    """Run it to its end; its exit status, 128 + the signal's number where one ended it.

    The first SIGINT, SIGTERM or SIGHUP becomes a SIGINT to the command alone, which then has a
    minute and a half; another SIGINT ends it at once. Those that are ignored here (nohup, a job in
    a shell's background) stay so. This is to be a process's last work: the signals stay blocked in
    it, because one that arrives twice would end it before it can tell its status. Where the kernel
    is not Linux, the command takes this process's place instead.
    """
    if sys.platform != "linux":
        os.execv(command[0], [str(part) for part in command])  # noqa: S606 - does not return
    libc = ctypes.CDLL(None, use_errno=True)
    # Processes whose parent is gone become children of this one, and not of init.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    waited = {n for n in _ENDING if signal.getsignal(n) != signal.SIG_IGN} | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    # In a session of its own: a signal to this one's group would end Ray under `serve run`.
    child = subprocess.Popen(  # noqa: S603 - the caller's own command
        command,
        start_new_session=True,
        preexec_fn=partial(_prepare, libc, before, os.getpid()),
    )
    try:
        status = child.returncode = _watch(child.pid, waited)
    finally:
        _end_children()
    return status if status >= 0 else 128 - status


def _prepare(libc: ctypes.CDLL, mask: Collection[int], parent: int) -> None:
    """In the child. Where the supervisor is killed, the kernel gives the command its Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs inherit it ignored
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _watch(child: int, waited: Collection[int]) -> int:
    """The child's exit status, negative for a signal."""
    stopping_at = kill_at = float("inf")
    while child not in (ended := dict(_reap())):
        received = signal.sigtimedwait(waited, _LOOKS_EVERY_S)
        now = time.monotonic()
        if received is not None and received.si_signo != signal.SIGCHLD:
            if stopping_at > now:
                stopping_at, kill_at = now, now + _LONGEST_STOP_S
                os.kill(child, signal.SIGINT)
            elif received.si_signo == signal.SIGINT and now - stopping_at > _INSISTS_AFTER_S:
                kill_at = now
        if now >= kill_at:
            os.kill(child, signal.SIGKILL)
    return ended[child]


def _end_children() -> None:
    """Wait for those that end by themselves, ask the others to, kill the rest.

    Only children are signalled: their ids are not given to other processes before they are reaped.
    When one ends, its own children become ours.
    """
    for number, patience_s in _LEFT:
        deadline = time.monotonic() + patience_s
        signalled: set[int] = set()
        while time.monotonic() < deadline:
            for _ in _reap():
                pass
            children = _children()
            if not children:
                return
            if number is not None:
                for child in children - signalled:
                    with suppress(ProcessLookupError):
                        os.kill(child, number)
                signalled |= children
            time.sleep(0.1)


def _reap() -> Iterator[tuple[int, int]]:
    """Children that have ended, with their exit statuses."""
    with suppress(ChildProcessError):  # there are none
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


def _children() -> set[int]:
    mine = str(os.getpid())
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            # pid (name) state parent: a name can hold anything
            if stat.read_text(errors="replace").rpartition(")")[2].split()[1] == mine:
                found.add(int(stat.parent.name))
    return found
