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
from itertools import cycle, islice
from pathlib import Path

from tests.support.demo_cases import Demo, complaints
from tests.support.label_studio import LabelStudio

TASKS = 300
KILLS = 2
LOG = logging.getLogger("e2e")


def test_every_task_gets_one_prediction_however_often_it_is_killed(
    label_studio: LabelStudio, service: str, pictures: str, demo: Demo, tmp_path: Path
) -> None:
    project = label_studio.create_project("Whole project", demo.config)
    names = islice(cycle([case.image.name for case in demo.cases]), TASKS)
    # The query makes each picture one of its own, so that no answer comes from the service's cache.
    addresses = [f"{pictures}/{name}?{i}" for i, name in enumerate(names)]
    label_studio.import_tasks(project, [*addresses, f"{pictures}/missing.png"])
    tasks = {int(task["id"]): str(task["data"]["image"]) for task in label_studio.tasks(project)}
    command = [
        *(str(Path(sys.executable).with_name("prelabel")), "annotate"),
        *("--project", str(project), "--url", service, "--journal", str(tmp_path / "run.sqlite")),
    ]
    environment = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "LABEL_STUDIO_HOST": label_studio.url,
        "LABEL_STUDIO_ACCESS_TOKEN": label_studio.personal_token,
    }

    def count(*options: str) -> int:
        found = subprocess.run(
            [*command, "--dry-run", "--json", *options],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(json.loads(found.stdout)["left"])

    border = sorted(tasks)[99]
    low = {"filter": "filter:tasks:id", "operator": "less", "type": "Number", "value": border}
    assert count() == count("--unannotated") == TASKS + 1
    assert count("--view", str(label_studio.add_tab(project, "and", low))) == 99
    numbers = random.Random(7)
    for _ in range(KILLS):
        before = len(label_studio.predictions(project))
        with subprocess.Popen(command, env=environment) as process:
            while len(label_studio.predictions(project)) == before and process.poll() is None:
                time.sleep(0.2)
            time.sleep(numbers.uniform(0, 3))
            process.send_signal(signal.SIGKILL)
        stored = len(label_studio.predictions(project))
        LOG.info("Killed with %d predictions stored.", stored)
        assert before < stored or stored == TASKS
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    LOG.info("%s", ended.stdout)
    assert ended.returncode == 3, ended.stderr
    assert "1 failed." in ended.stdout

    predictions = label_studio.predictions(project)
    missing = next(task for task, image in tasks.items() if image.endswith("missing.png"))
    assert Counter(p["task"] for p in predictions) == dict.fromkeys(set(tasks) - {missing}, 1)
    assert len({p["model_version"] for p in predictions}) == 1
    assert not [p for p in predictions if complaints(demo.config, p)]
    listed = subprocess.run(
        [*command, "--failed"], env=environment, capture_output=True, text=True, check=False
    )
    assert listed.stdout.startswith(f"task {missing}: ")
    assert count() == 1
