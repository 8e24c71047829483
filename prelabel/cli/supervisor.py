"""Runs a command and ends all processes that it started, directly or indirectly.

Ray's processes end with `serve run`. HAProxy does not: if `serve run` ends by anything but Ctrl-C
(SIGTERM, a closed terminal, kill -9), HAProxy keeps listening on the service's port. The supervisor
therefore turns every termination signal into the Ctrl-C that `serve run` handles, and ends the
processes that remain after it.
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
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_TIMEOUT_S = 90.0  # above the graceful_shutdown_timeout_s of all deployments
# A second Ctrl-C within this time does not count: the terminal signals the whole process group, and
# `make` passes the signal on as well.
_REPEAT_AFTER_S = 1.0
_POLL_INTERVAL_S = 1.0
# Escalation for remaining processes: the signal to send (None: only wait) and the seconds to wait.
_ESCALATION = ((None, 3.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


def supervise(command: Sequence[str | Path]) -> int:
    """Run a command to its end and return its exit status, or 128 + the number of its signal.

    The first SIGINT, SIGTERM or SIGHUP is forwarded as SIGINT to the command alone, which then has
    90 seconds to end; a second SIGINT kills it at once. Signals that this process ignores (nohup, a
    background job of a shell) stay ignored.

    Call this last in a process: termination signals stay blocked afterwards, because a repeated one
    would end the process before it can return the status. On systems other than Linux, the command
    replaces this process instead.
    """
    if sys.platform != "linux":
        os.execv(command[0], [str(part) for part in command])  # noqa: S606 - does not return
    libc = ctypes.CDLL(None, use_errno=True)
    # Orphaned descendants become children of this process instead of init's.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    handled = {n for n in _TERMINATION_SIGNALS if signal.getsignal(n) != signal.SIG_IGN}
    awaited = handled | {signal.SIGCHLD}
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    # A new session: a signal to this process's group would end Ray before `serve run` handles it.
    child = subprocess.Popen(  # noqa: S603 - the caller's own command
        command,
        start_new_session=True,
        preexec_fn=partial(_prepare_child, libc, previous_mask, os.getpid()),
    )
    try:
        status = child.returncode = _watch(child.pid, awaited)
    finally:
        _end_children()
    return status if status >= 0 else 128 - status


def start_child(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that only this process sends it Ctrl-C.

    If this process is killed, the kernel sends the command its Ctrl-C. Call this in the main
    thread, because the kernel does so when the thread ends that started the command.

    Args:
        command: The program and its arguments.
        options: Further arguments of `subprocess.Popen`.
    """
    prepare = None
    if sys.platform == "linux":
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        prepare = partial(_prepare_child, ctypes.CDLL(None), mask, os.getpid())
    return subprocess.Popen(command, start_new_session=True, preexec_fn=prepare, **options)  # noqa: S603


def _prepare_child(libc: ctypes.CDLL, mask: Collection[int], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell inherit it ignored
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # If the supervisor is killed, the kernel sends the command its Ctrl-C.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:  # the supervisor ended before prctl took effect
        os._exit(1)


def _watch(child: int, awaited: Collection[int]) -> int:
    """Wait for the child, forwarding signals. Returns its status; negative for a signal."""
    stopping_at = kill_at = float("inf")
    while child not in (ended := dict(_reap())):
        received = signal.sigtimedwait(awaited, _POLL_INTERVAL_S)
        now = time.monotonic()
        if received is not None and received.si_signo != signal.SIGCHLD:
            if stopping_at > now:
                stopping_at, kill_at = now, now + _STOP_TIMEOUT_S
                os.kill(child, signal.SIGINT)
            elif received.si_signo == signal.SIGINT and now - stopping_at > _REPEAT_AFTER_S:
                kill_at = now
        if now >= kill_at:
            os.kill(child, signal.SIGKILL)
    return ended[child]


def _end_children() -> None:
    """Wait for remaining children to end, then terminate and at last kill them.

    Only children are signalled: the kernel does not reuse their ids before they are reaped. When a
    child ends, its own children become children of this process.
    """
    for number, patience_s in _ESCALATION:
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
    """Yield the ids and exit statuses of children that have ended."""
    with suppress(ChildProcessError):  # no children
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


def _children() -> set[int]:
    own_id = str(os.getpid())
    children = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has just ended
            # Format: pid (name) state parent. The name may contain spaces and parentheses.
            if stat.read_text(errors="replace").rpartition(")")[2].split()[1] == own_id:
                children.add(int(stat.parent.name))
    return children
