"""The supervisor ends a command's processes, whichever way it ends itself.

tests/serve/test_serve.py has `prelabel serve` with the service.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.processes import processes_with

pytestmark = pytest.mark.slow

MARK = "PRELABEL_TEST_MARK"
PATIENCE_S = 30

# Something like HAProxy: in a session of its own, and deaf to SIGTERM.
ORPHAN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("orphan", flush=True)
time.sleep(600)
"""
COMMAND = """
import os, subprocess, sys, time
started = [sys.executable, "-c", sys.argv[1]]
with subprocess.Popen(started, stdout=subprocess.PIPE, start_new_session=True) as orphan:
    orphan.stdout.readline()
    said = "up"
    while True:
        try:
            print(said, flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            said = "Ctrl-C"
            if "deaf" not in sys.argv:
                print(said, flush=True)
                os._exit(3)
"""
SUPERVISOR = """
import signal, sys
from prelabel.cli import supervisor
supervisor._LEFT = ((None, 0.2), (signal.SIGTERM, 0.3), (signal.SIGKILL, 20))
sys.exit(supervisor.supervise([sys.executable, "-c", *sys.argv[1:]]))
"""


class Supervised:
    """A supervisor in a session of its own, and its command."""

    def __init__(self, process: subprocess.Popen[str], mark: str) -> None:
        self.process = process
        self._mark = mark

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    @property
    def command(self) -> int:
        [child] = [
            pid
            for pid in self.left()
            if f"PPid:\t{self.process.pid}\n" in Path(f"/proc/{pid}/status").read_text()
        ]
        return child

    def left(self) -> set[int]:
        return processes_with(MARK, self._mark)

    def ended(self) -> int:
        status = self.process.wait(PATIENCE_S)
        assert self.left() == set()
        return status


@contextmanager
def supervised(*options: str, ignored: signal.Signals | None = None) -> Iterator[Supervised]:
    mark = uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, COMMAND, ORPHAN, *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {MARK: mark},
        start_new_session=True,
        preexec_fn=partial(signal.signal, ignored, signal.SIG_IGN) if ignored else None,
    ) as process:
        found = Supervised(process, mark)
        try:
            assert found.said() == "up"
            yield found
        finally:
            for pid in found.left():
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_is_one_ctrl_c_and_nothing_is_left(number: signal.Signals) -> None:
    with supervised() as found:
        os.killpg(found.process.pid, number)
        found.process.send_signal(number)  # as make does with SIGTERM
        assert found.said() == "Ctrl-C"
        assert found.ended() == 3
        assert found.said() == ""


def test_a_command_that_is_killed_leaves_nothing() -> None:
    with supervised() as found:
        os.kill(found.command, signal.SIGKILL)
        assert found.ended() == 128 + signal.SIGKILL


def test_a_second_ctrl_c_ends_at_once_what_does_not_end() -> None:
    with supervised("deaf") as found:
        for _ in range(2):
            os.killpg(found.process.pid, signal.SIGTERM)
            time.sleep(1.2)
        assert found.process.poll() is None, "only Ctrl-C insists"
        os.killpg(found.process.pid, signal.SIGINT)
        assert found.ended() == 128 + signal.SIGKILL


def test_a_command_whose_supervisor_is_killed_gets_its_ctrl_c() -> None:
    with supervised() as found:
        found.process.kill()
        assert found.said() == "Ctrl-C"


def test_a_job_of_a_shell_s_background_can_be_ended() -> None:
    with supervised(ignored=signal.SIGINT) as found:
        os.killpg(found.process.pid, signal.SIGINT)
        os.killpg(found.process.pid, signal.SIGTERM)
        assert found.said() == "Ctrl-C"
        assert found.ended() == 3


def test_nohup_is_heeded() -> None:
    with supervised(ignored=signal.SIGHUP) as found:
        os.killpg(found.process.pid, signal.SIGHUP)
        time.sleep(0.5)
        assert found.process.poll() is None
        os.kill(found.command, signal.SIGINT)
        assert found.ended() == 3


def test_a_child_gets_its_ctrl_c_when_the_process_is_killed_that_started_it() -> None:
    waiting = "import time\ntry:\n print('up', flush=True); time.sleep(600)\n"
    waiting += "except KeyboardInterrupt:\n print('Ctrl-C', flush=True)"
    parent = "import sys, time; from prelabel.cli.supervisor import start_child\n"
    parent += "start_child([sys.executable, '-c', sys.argv[1]]); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", parent, waiting], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        assert process.stdout.readline() == "Ctrl-C\n"


@pytest.mark.parametrize("status", [0, 5])
def test_the_command_s_status_is_the_supervisor_s(status: int) -> None:
    command = [sys.executable, "-c", SUPERVISOR, f"import sys; sys.exit({status})"]
    assert subprocess.run(command, check=False, timeout=PATIENCE_S).returncode == status
