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
from prelabel.types import PromptRequest
from tests.support.fake_label_studio import running
from tests.support.fake_projects import ProjectLabelStudio
from tests.support.http_server import serve
from tests.support.local_service import VERSION, LocalService
from tests.support.local_service import running as service_running
from tests.support.paths import ROOT
from tests.support.scenes import SCENE

pytestmark = pytest.mark.slow

PRELABEL = Path(sys.executable).with_name("prelabel")
TASKS = list(range(1, 31))
OLDER, OTHERS = "demo-89abcdef", "demo-of-another-team"
WITHOUT_PICTURE = 17
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat"/></RectangleLabels></View>'
)


class Shell:
    """A shell with Label Studio's variables, whose services run."""

    def __init__(
        self,
        studio: ProjectLabelStudio,
        service: LocalService,
        studio_url: str,
        url: str,
        folder: Path,
    ) -> None:
        self.studio, self.service, self._url, self._folder = studio, service, url, folder
        self._variables = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
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
        yield Shell(studio, service, server.url, url, tmp_path)


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


def test_a_prompt_for_one_run_and_predictions_that_it_replaces(shell: Shell) -> None:
    studio = shell.studio
    studio.images = dict.fromkeys(TASKS, SCENE)
    studio.project["label_config"] = CONFIG.replace("<Label ", '<Label value="dog"/><Label ')
    versions = (OLDER, OTHERS)
    studio.stored = [
        {"id": i, "task": task, "model_version": version}
        for i, (version, task) in enumerate(((v, t) for v in versions for t in TASKS), 1)
    ]

    def labels() -> set[str]:
        mine = [p for p in studio.stored if p["model_version"] == VERSION]
        return {r["value"]["rectanglelabels"][0] for p in mine for r in p["result"]}

    first = shell.annotate("--prompt", "dog", "--box-threshold", "0.1")
    assert first.returncode == 0, first.stderr
    assert labels() == {"dog"}
    [request, *_] = shell.service.requests
    assert request.prompt_request == PromptRequest("dog", 0.1)
    assert studio.counts(OLDER) == studio.counts(VERSION) == dict.fromkeys(TASKS, 1)

    again = shell.annotate("--prompt", "dog", "--box-threshold", "0.1", "--json")
    assert json.loads(again.stdout) == {"done": 0, "failed": 0, "left": 0}
    other = shell.annotate("--prompt", "cat")
    assert (other.returncode, other.stdout) == (1, "")
    assert f"30 tasks have predictions of {VERSION} already" in other.stderr
    assert "Add --replace" in other.stderr

    counted = shell.annotate("--prompt", "cat", "--replace", "--dry-run", "--json")
    replaced = {OLDER: 30, VERSION: 30}
    assert json.loads(counted.stdout) == {"left": 0, "model_version": VERSION, "replaced": replaced}
    assert labels() == {"dog"}
    replacing = shell.annotate("--prompt", "cat", "--replace")
    assert "60 older predictions removed." in replacing.stdout.splitlines()
    assert labels() == {"cat"}
    assert not studio.counts(OLDER)
    assert studio.counts(OTHERS) == studio.counts(VERSION) == dict.fromkeys(TASKS, 1)

    wrong = shell.annotate("--prompt", "ship", "--replace")
    assert wrong.returncode == 1

    assert "'ship'" in wrong.stderr
    assert labels() == {"cat"}


def test_predictions_are_renewed_after_a_change_of_the_labeling_config(shell: Shell) -> None:
    studio = shell.studio
    studio.images = dict.fromkeys(TASKS, SCENE)
    assert shell.annotate().returncode == 0
    assert all(prediction["result"] for prediction in studio.stored)
    studio.project["label_config"] = CONFIG.replace(
        "<Label ", '<Label model_score_threshold="0.95" '
    )
    assert "0 done, 0 failed." in shell.annotate().stdout
    counted = json.loads(shell.annotate("--renew", "--dry-run", "--json").stdout)
    assert counted["replaced"] == {VERSION: 30}

    renewed = json.loads(shell.annotate("--renew", "--json").stdout)
    assert renewed == {"done": 30, "failed": 0, "left": 0, "removed": 30}
    assert studio.counts(VERSION) == dict.fromkeys(TASKS, 1)
    assert not any(prediction["result"] for prediction in studio.stored)
    again = json.loads(shell.annotate("--renew", "--json").stdout)
    assert again == {"done": 0, "failed": 0, "left": 0, "removed": 0}


def test_an_older_service_would_ignore_the_prompt(shell: Shell) -> None:
    health = {
        "model_version": VERSION,
        "service_version": "0.1",
        "model": {"name": "a", "title": "A"},
    }
    with serve(lambda exchange, _: exchange.answer(200, json.dumps(health).encode())) as server:
        found = shell.annotate("--prompt", "cat", "--url", server.url)
    assert found.returncode == 1
    assert "older version (0.1), which would ignore --prompt" in found.stderr


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
