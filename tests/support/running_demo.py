"""`make demo` in a checkout, with a data folder and ports of its own, and the text it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.browser import Annotator
from tests.support.paths import ROOT
from tests.support.processes import end_leftovers, free_port, processes_with
from tests.support.ray_environment import beside_others

STOP_S = 90
READY = "Ctrl-C ends both servers."
PROMPT = "frog . horse . sunflower"
LABELS = {"frog", "horse", "sunflower"}


@dataclass(frozen=True)
class Told:
    """The demo's output: the account, and the project and first task of each title."""

    address: str
    user: str
    password: str
    tasks: dict[str, tuple[int, int]]

    @classmethod
    def by(cls, text: str) -> Told:
        address, user, password = (
            re.search(rf"^{name} +(\S+)$", text, re.MULTILINE)
            for name in ("Label Studio", "user", "password")
        )
        assert address, text
        assert user, text
        assert password, text
        tasks = re.findall(r"^Demo: (.+?)  \S+/projects/(\d+)/data\?task=(\d+)$", text, re.M)
        return cls(
            address[1], user[1], password[1], {name: (int(p), int(t)) for name, p, t in tasks}
        )


class RunningDemo:
    """`make demo` in a session of its own.

    folder: keeps the demo's data; the output goes to a file beside it. variables: the rest of the
    environment.
    """

    def __init__(
        self, folder: Path, ray_folder: str, variables: Mapping[str, str], checkout: Path = ROOT
    ) -> None:
        self.folder = folder
        self.ports = {"PORT": free_port(), "LABEL_STUDIO_PORT": free_port()}
        self._ray_folder = ray_folder
        self._variables = variables
        self._checkout = checkout
        self._log = folder.with_suffix(".log")

    @contextmanager
    def started(self, within_s: float = 300) -> Iterator[subprocess.Popen[bytes]]:
        command = ["make", "demo", f"ARGS=--folder {self.folder}"]
        command += [f"{name}={port}" for name, port in self.ports.items()]
        environment = {
            "HOME": str(self.folder.parent),
            **self._variables,
            **beside_others(Path(self._ray_folder)),
            "RAY_ADDRESS": "local",
        }
        with (
            self._log.open("wb") as output,
            subprocess.Popen(
                command,
                cwd=self._checkout,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as demo,
        ):
            try:
                self._wait_until_ready(demo, within_s)
                yield demo
            finally:
                demo.kill()

    @property
    def said(self) -> str:
        return self._log.read_text()

    def processes(self) -> set[int]:
        """All of its processes. Label Studio has an environment of its own."""
        return processes_with("RAY_TMPDIR", self._ray_folder) | processes_with(
            "LABEL_STUDIO_BASE_DATA_DIR", str(self.folder)
        )

    def child_of(self, parent: int) -> int:
        """Return the process that a process has started."""
        [child] = [each for each in self.processes() if _parent(each) == parent]
        return child

    def wait_until_left(self) -> None:
        """Fail if a process is left after a while."""
        deadline = time.monotonic() + STOP_S
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert self.processes() == set()

    def end_leftovers(self) -> set[int]:
        """Kill the processes that are left; return their ids."""
        return end_leftovers("RAY_TMPDIR", self._ray_folder) | end_leftovers(
            "LABEL_STUDIO_BASE_DATA_DIR", str(self.folder)
        )

    def _wait_until_ready(self, demo: subprocess.Popen[bytes], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while READY not in self.said:
            assert demo.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.2)


@contextmanager
def demo_in(
    folder: Path, variables: Mapping[str, str] | None = None, checkout: Path = ROOT
) -> Iterator[RunningDemo]:
    """Yield a demo that is not started yet; fail if a process of it is left when the block ends."""
    if variables is None:
        binaries = Path(sys.executable).parent
        variables = {"PATH": f"{binaries}{os.pathsep}{os.defpath}", "PYTHONPATH": str(checkout)}
    # Ray's sockets need short paths.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_folder:
        demo = RunningDemo(folder, ray_folder, variables, checkout)
        try:
            yield demo
        finally:
            left = demo.end_leftovers()
        assert left == set()


def get_boxes_by_typing(person: Annotator, told: Told) -> None:
    """Log in with the printed password, type a prompt, and accept its boxes."""
    person.log_in(told.user, told.password)
    person.open_task(*told.tasks["typed prompts"])
    person.switch_on_auto_annotation()
    person.type_prompt(PROMPT)
    person.accept_suggestions()
    boxes = [each for each in person.regions() if each["type"] == "rectanglelabels"]
    assert {each["value"]["rectanglelabels"][0] for each in boxes} == LABELS


def _parent(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has just ended
        return 0
    found = re.search(r"^PPid:\t(\d+)$", status, re.MULTILINE)
    return int(found[1]) if found else 0
