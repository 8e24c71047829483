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

from tests.support.demo_cases import Demo, complaints
from tests.support.label_studio import LabelStudio
from tests.support.paths import ROOT

TASKS = 300
KILLS = 2
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
