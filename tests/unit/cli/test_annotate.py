"""`prelabel annotate` as it is typed, between a Label Studio and a service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from prelabel.settings import Environment
from tests.support.fake_label_studio import running
from tests.support.fake_projects import ProjectLabelStudio
from tests.support.local_service import VERSION, LocalService
from tests.support.local_service import running as service_running
from tests.support.scenes import SCENE

pytestmark = pytest.mark.slow

PRELABEL = Path(sys.executable).with_name("prelabel")
TASKS = list(range(1, 31))
WITHOUT_PICTURE = 17
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat"/></RectangleLabels></View>'
)


class Shell:
    """A shell with Label Studio's variables, whose services run."""

    def __init__(self, studio: ProjectLabelStudio, studio_url: str, url: str, folder: Path) -> None:
        self.studio, self._url, self._folder = studio, url, folder
        self._variables = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "LABEL_STUDIO_HOST": studio_url,
            "LABEL_STUDIO_ACCESS_TOKEN": studio.token,
        }

    def annotate(self, *options: str) -> CompletedProcess[str]:
        journal = ("--journal", str(self._folder / "run.sqlite"))
        return subprocess.run(
            [PRELABEL, "annotate", "--project", "3", "--url", self._url, *journal, *options],
            env=self._variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    images = {task: SCENE for task in TASKS if task != WITHOUT_PICTURE}
    studio = ProjectLabelStudio(config=CONFIG, task_ids=TASKS, images=images)
    service = LocalService(Environment())
    with running(studio) as server, service_running(service) as url:
        yield Shell(studio, server.url, url, tmp_path)


def test_from_counting_to_trying_again(shell: Shell) -> None:
    counted = shell.annotate("--dry-run")
    assert counted.returncode == 0, counted.stderr
    assert counted.stdout == f"30 tasks have no prediction of {VERSION}.\n"
    assert not shell.studio.stored

    annotated = shell.annotate()
    assert annotated.returncode == 3, annotated.stderr
    lines = annotated.stdout.splitlines()
    assert lines[0] == f"Project 3 (Cats), model version {VERSION}."
    assert "29 done, 1 failed." in lines
    assert "--failed lists them" in lines[-1]
    assert shell.studio.counts(VERSION) == dict.fromkeys(shell.studio.images, 1)

    failed = shell.annotate("--failed")
    assert failed.stdout.startswith(f"task {WITHOUT_PICTURE}: ")
    [entry] = map(json.loads, shell.annotate("--failed", "--json").stdout.splitlines())
    assert entry["task"] == WITHOUT_PICTURE
    assert failed.stdout == f"task {WITHOUT_PICTURE}: {entry['error']}\n"

    again = shell.annotate("--json")
    assert again.returncode == 3
    assert json.loads(again.stdout) == {"done": 0, "failed": 1, "left": 0}

    shell.studio.images[WITHOUT_PICTURE] = SCENE
    repaired = shell.annotate("--retry-failed", "--json")
    assert repaired.returncode == 0
    assert json.loads(repaired.stdout) == {"done": 1, "failed": 0, "left": 0}
    assert shell.studio.counts(VERSION) == dict.fromkeys(TASKS, 1)


def test_what_is_wrong_is_said_before_any_task(shell: Shell) -> None:
    for options, sentence in (
        (["--project", "4"], "no project 4"),
        (["--view", "9"], "no tab 9"),
        (["--url", "http://127.0.0.1:9"], "No service answers"),
    ):
        found = shell.annotate(*options)
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr.startswith("prelabel: ")
        assert sentence in found.stderr
    shell.studio.project["label_config"] = "<View/>"
    assert shell.annotate().returncode == 1
    assert not shell.studio.stored
