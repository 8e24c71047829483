"""The demo's two servers, Label Studio and the service: started, awaited, watched and ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prelabel.cli.demo import label_studio
from prelabel.cli.demo.account import Account, DemoError
from prelabel.cli.service_client import NOT_NOW, ServiceClient
from prelabel.cli.service_start import check_state
from prelabel.cli.supervisor import start_child
from prelabel.labelstudio.http import UnreachableError
from prelabel.labelstudio.rest import LabelStudioAPI

POLL_INTERVAL_S: Final = 0.5
_LINE_EVERY_S: Final = 10.0
_LOG_TAIL_LINES: Final = 15

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started.

    Attributes:
        name: Its name in sentences.
        process: Its process.
        log: File of its output.
        is_up: Returns True once it answers.
        progress: Returns a few words about its start; empty if there is nothing to say.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    is_up: Callable[[], bool]
    progress: Callable[[], str] = str

    def check(self) -> None:
        """Raise DemoError if the server has ended."""
        status = self.process.poll()
        if status is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
            said = "\n".join(tail)
            raise DemoError(
                f"{self.name} ended with status {status}. The end of {self.log}:\n{said}"
            )


def start_label_studio(
    program: Path, port: int, folder: Path, account: Account, api: LabelStudioAPI
) -> Server:
    """Start Label Studio, which keeps everything in the folder. api: its API."""

    def is_up() -> bool:
        try:
            api.version()
        except UnreachableError:
            return False
        return True

    def progress() -> str:
        count = label_studio.count_migrations(folder)
        return f"{count} steps of its database are done" if count else "its database is empty"

    label_studio.copy_empty_database(program, folder)
    log = folder / "label-studio.log"
    process = _start(
        label_studio.command(program, port),
        log,
        {**label_studio.variables(folder, account), **label_studio.NO_WAY_OUT},
    )
    return Server("Label Studio", process, log, is_up, progress)


def start_service(config: Path, folder: Path, client: ServiceClient) -> Server:
    """Start the service with a Serve config and this process's environment. client: its client."""

    def is_up() -> bool:
        try:
            check_state(client.health(), client.url)
        except NOT_NOW:
            return False
        return True

    log = folder / "service.log"
    process = _start([Path(sys.executable).with_name("prelabel"), "serve", config], log)
    return Server("The service", process, log, is_up)


@contextmanager
def ended_together(servers: Sequence[Server]) -> Iterator[None]:
    """Interrupt the servers when the block ends, and wait until they have ended."""
    try:
        yield
    finally:
        for server in servers:
            server.process.send_signal(signal.SIGINT)
        for server in servers:
            server.process.wait()


def wait_until_up(servers: Sequence[Server], say: Say) -> None:
    """Return once all servers answer; say how far they are every ten seconds.

    Raises:
        DemoError: One of them has ended.
        ServiceError: The service could not load its model.
    """
    began_at = time.monotonic()
    next_line_s = _LINE_EVERY_S
    waiting = list(servers)
    while waiting:
        for server in servers:
            server.check()
        for server in [each for each in waiting if each.is_up()]:
            waiting.remove(server)
            say(f"{server.name} is up after {time.monotonic() - began_at:.0f} s.")
        waited_s = time.monotonic() - began_at
        if waiting and waited_s >= next_line_s:
            next_line_s = waited_s + _LINE_EVERY_S
            say(f"{waited_s:.0f} s: {', '.join(_waiting_for(each) for each in waiting)}.")
        time.sleep(POLL_INTERVAL_S if waiting else 0)


def _waiting_for(server: Server) -> str:
    progress = server.progress()
    return f"{server.name} is starting" + (f" ({progress})" if progress else "")


def _start(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return start_child(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
