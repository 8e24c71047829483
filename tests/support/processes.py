"""Starting and stopping the real servers, each in its own session and with its own environment.

The environment is given whole: what the developer's shell holds cannot change a result.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.support.paths import ROOT

STOP_TIMEOUT_S = 30


def free_port() -> int:
    """Return a port that is free on all addresses.

    It is outside of the ephemeral range, from which the kernel could assign it to a connection
    before the caller listens.
    """
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


@contextmanager
def running(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path, health: str
) -> Iterator[None]:
    """Run the command until the block ends, with all its children; enter once `health` answers 200.

    The command starts in the checkout, as a user would start it.
    """
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_up(server, health, log)
        yield
    finally:
        _stop(server)


def processes_with(variable: str, value: str) -> set[int]:
    """Ids of all live processes whose environment says `variable=value`: they inherit it."""
    wanted = f"{variable}={value}".encode()
    found = set()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environ.read_bytes().split(b"\0"):
                found.add(int(environ.parent.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def end_leftovers(variable: str, value: str) -> set[int]:
    """Kill those of `processes_with` that outlive STOP_TIMEOUT_S; return their ids."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (left := processes_with(variable, value)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left


def _wait_until_up(
    server: subprocess.Popen[bytes], health: str, log: Path, timeout_s: float = 300
) -> None:
    deadline = time.monotonic() + timeout_s
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(health, timeout=2, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    tail = log.read_text(errors="replace")[-4000:]
    raise RuntimeError(f"{health} did not answer, its process ended with {server.poll()}:\n{tail}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Interrupt the whole group, as Ctrl-C in a terminal does; kill it after STOP_TIMEOUT_S."""
    _signal_group(server.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        server.wait(STOP_TIMEOUT_S)
    _signal_group(server.pid, signal.SIGKILL)
    server.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
