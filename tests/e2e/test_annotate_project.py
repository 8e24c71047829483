"""`prelabel annotate` over a project of Label Studio, killed twice."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tests.support.demo_cases import Demo, boxes_of, complaints
from tests.support.label_studio import LabelStudio
from tests.support.paths import ROOT

TASKS = 300
KILLS = 2
REPLACED_TASKS = 40
OLDER, OTHERS = "demo-00000000", "yolo-00000000"
LOG = logging.getLogger("e2e")


@dataclass(frozen=True)
class Annotate:
    """The command for one project, in a shell with Label Studio's variables."""

    project: int
    service: str
    label_studio: LabelStudio
    folder: Path

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [
            *(str(Path(sys.executable).with_name("prelabel")), "annotate"),
            *("--project", str(self.project), "--url", self.service),
            *("--journal", str(self.folder / "run.sqlite"), *options),
        ]
        environment = {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "LABEL_STUDIO_HOST": self.label_studio.url,
            "LABEL_STUDIO_ACCESS_TOKEN": self.label_studio.personal_token,
        }
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def run(self, status: int, *options: str) -> str:
        """Run it to its end, which has this exit status; return its output."""
        with self.start(*options) as process:
            output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        return output

    def count(self, *options: str) -> int:
        """Return the number of tasks that are left."""
        return int(json.loads(self.run(0, "--dry-run", "--json", *options))["left"])

    def stored(self) -> int:
        return len(self.label_studio.predictions(self.project))

    def kill_after(self, delay_s: float) -> None:
        """Start it, and kill it `delay_s` after its first predictions are stored."""
        before = self.stored()
        with self.start() as process:
            while self.stored() == before and process.poll() is None:
                time.sleep(0.2)
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
        stored = self.stored()
        LOG.info("Killed with %d predictions stored.", stored)
        assert before < stored or stored == TASKS


def versions(predictions: list[dict[str, Any]]) -> dict[str, Counter[int]]:
    """Return the number of predictions by model version and task."""
    found: dict[str, Counter[int]] = {}
    for each in predictions:
        found.setdefault(each["model_version"], Counter())[each["task"]] += 1
    return found


def test_older_predictions_are_replaced_and_others_stay(
    label_studio: LabelStudio, service: str, pictures: str, demo: Demo, tmp_path: Path
) -> None:
    project = label_studio.create_project("Replaced", demo.config)
    names = islice(cycle([case.image.name for case in demo.cases]), REPLACED_TASKS)
    label_studio.import_tasks(project, [f"{pictures}/{name}?{i}" for i, name in enumerate(names)])
    tasks = [int(task["id"]) for task in label_studio.tasks(project)]
    each_once = dict.fromkeys(tasks, 1)
    annotate = Annotate(project, service, label_studio, tmp_path)

    def stored() -> dict[str, Counter[int]]:
        return versions(label_studio.predictions(project))

    label_studio.import_predictions(project, [*tasks, *tasks[:5]], OLDER)
    label_studio.import_predictions(project, tasks, OTHERS)
    label_studio.show_predictions_of(project, OLDER)
    assert f"{len(tasks) + 5} older predictions removed." in annotate.run(0, "--replace")
    newest = label_studio.shown_version(project)
    assert stored() == {OTHERS: each_once, newest: each_once}

    border = {"operator": "less", "type": "Number", "value": tasks[20]}
    tab = label_studio.add_tab(project, "and", {"filter": "filter:tasks:id", **border})
    label_studio.import_predictions(project, tasks, OLDER)
    assert "20 older predictions removed." in annotate.run(0, "--replace", "--view", str(tab))
    assert stored() == {OTHERS: each_once, newest: each_once, OLDER: dict.fromkeys(tasks[20:], 1)}

    label = demo.cases[0].labels[0]
    options = ("--prompt", label, "--replace")
    before = {p["id"] for p in label_studio.predictions(project)}
    with annotate.start(*options) as process:
        while {p["id"] for p in label_studio.predictions(project)} <= before:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert set(tasks) <= stored()[newest].keys()
    annotate.run(0, *options)
    assert stored() == {OTHERS: each_once, newest: each_once}
    renewed = [p for p in label_studio.predictions(project) if p["model_version"] == newest]
    assert not {p["id"] for p in renewed} & before
    assert {found for p in renewed for found, *_ in boxes_of(p["result"])} == {label}


def test_every_task_gets_one_prediction_however_often_it_is_killed(
    label_studio: LabelStudio, service: str, pictures: str, demo: Demo, tmp_path: Path
) -> None:
    project = label_studio.create_project("Whole project", demo.config)
    names = islice(cycle([case.image.name for case in demo.cases]), TASKS)
    # The query makes each picture one of its own, so that no answer comes from the service's cache.
    addresses = [f"{pictures}/{name}?{i}" for i, name in enumerate(names)]
    label_studio.import_tasks(project, [*addresses, f"{pictures}/missing.png"])
    tasks = {int(task["id"]): str(task["data"]["image"]) for task in label_studio.tasks(project)}
    annotate = Annotate(project, service, label_studio, tmp_path)

    border = sorted(tasks)[99]
    low = {"filter": "filter:tasks:id", "operator": "less", "type": "Number", "value": border}
    assert annotate.count() == annotate.count("--unannotated") == TASKS + 1
    assert annotate.count("--view", str(label_studio.add_tab(project, "and", low))) == 99

    numbers = random.Random(7)
    for _ in range(KILLS):
        annotate.kill_after(numbers.uniform(0, 3))
    assert "1 failed." in annotate.run(3)

    predictions = label_studio.predictions(project)
    missing = next(task for task, image in tasks.items() if image.endswith("missing.png"))
    assert Counter(p["task"] for p in predictions) == dict.fromkeys(set(tasks) - {missing}, 1)
    assert len({p["model_version"] for p in predictions}) == 1
    assert not [p for p in predictions if complaints(demo.config, p)]
    assert annotate.run(0, "--failed").startswith(f"task {missing}: ")
    assert annotate.count() == 1
