"""`prelabel review`: Label Studio hands out the task with the lowest score first."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

from tests.support.demo_cases import Demo
from tests.support.label_studio import LabelStudio

TASKS = 12


def test_the_task_with_the_lowest_score_is_handed_out_first(
    label_studio: LabelStudio, service: str, pictures: str, demo: Demo, tmp_path: Path
) -> None:
    project = label_studio.create_project("Review order", demo.config)
    label_studio.connect(project, service)  # the title of the backend hides all scores
    names = islice(cycle([case.image.name for case in demo.cases]), TASKS)
    label_studio.import_tasks(project, [f"{pictures}/{name}?{i}" for i, name in enumerate(names)])

    def run(command: str, *options: str) -> str:
        ended = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("prelabel")), command),
                *("--project", str(project), "--url", service, *options),
            ],
            env={
                "PATH": os.defpath,
                "HOME": str(tmp_path),
                "COLUMNS": "120",
                "LABEL_STUDIO_HOST": label_studio.url,
                "LABEL_STUDIO_ACCESS_TOKEN": label_studio.personal_token,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        return ended.stdout + ended.stderr

    assert f"Run prelabel annotate --project {project} first" in run("review")
    assert f"{TASKS} done, 0 failed" in run("annotate", "--journal", str(tmp_path / "run.sqlite"))
    assert "in 12 pictures" in run(
        "review", "--look-alikes", "--journal", str(tmp_path / "run.sqlite")
    )
    assert "scores predictions by confidence" in run("review")
    assert "With --apply it hands out the tasks with the lowest scores" in run("review")

    shown = run("review", "--apply")
    scores = {p["task"]: p["score"] for p in label_studio.predictions(project)}
    lowest = sorted(scores, key=lambda task: (scores[task], task))
    assert label_studio.next_task(project) == lowest[0]
    assert f"{scores[lowest[0]]:.3f}" in shown
    listed = [line for line in shown.splitlines() if f"/projects/{project}/data?task=" in line]
    assert len(listed) == 10
    assert listed[0].rstrip().endswith(f"task={lowest[0]}")
    assert "Annotators get the tasks with the lowest scores first" in run("review")
