"""A run needs the same memory for any number of tasks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_label_studio import running
from tests.support.fake_projects import ProjectLabelStudio

pytestmark = pytest.mark.slow

MIB = 1024  # in the system's unit, KiB
CLIENT = """
import resource, sys
from pathlib import Path
from pydantic import SecretStr
from prelabel.labelstudio.bulk import BulkAPI
from prelabel.projects.annotate import AnnotateRun, Target
from prelabel.projects.journal import RunJournal

url, token, journal = sys.argv[1:]
box = {"x": 1.5, "y": 2.5, "width": 3.5, "height": 4.5, "rotation": 0, "rectanglelabels": ["cat"]}
region = {"id": "1", "from_name": "label", "to_name": "image", "type": "rectanglelabels",
          "original_width": 640, "original_height": 480, "image_rotation": 0, "score": 0.5,
          "value": box}
run = AnnotateRun(
    BulkAPI(url, SecretStr(token)),
    lambda tasks: [{"result": [region] * 8, "score": 0.5, "model_version": "demo-1"}] * len(tasks),
    RunJournal(Path(journal)), Target(3, "demo-1", []),
    concurrency=4, patience_s=60, observe=lambda _: None,
)
done = run.run().done
usage = resource.getrusage(resource.RUSAGE_SELF)
print(done, usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
"""


def annotated(tasks: int, folder: Path) -> tuple[int, int, float]:
    """Return the tasks done, the greatest memory in KiB, and the seconds of processor time."""
    studio = ProjectLabelStudio(task_ids=list(range(1, tasks + 1)))
    with running(studio) as server:
        journal = str(folder / f"{tasks}.sqlite")
        client = [sys.executable, "-c", CLIENT, server.url, studio.token, journal]
        ended = subprocess.run(client, capture_output=True, text=True, check=True, timeout=1800)
    done, memory, processor_s = ended.stdout.split()
    return int(done), int(memory), float(processor_s)


def test_memory_does_not_grow_with_the_tasks(tmp_path: Path) -> None:
    few, memory_of_few, _ = annotated(1_000, tmp_path)
    many, memory_of_many, _ = annotated(15_000, tmp_path)
    assert (few, many) == (1_000, 15_000)
    assert memory_of_many - memory_of_few < 50 * MIB
