"""A run needs the same memory for any number of tasks, and little processor time for each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_label_studio import running
from tests.support.fake_projects import ProjectLabelStudio
from tests.support.http_server import Exchange, Received

pytestmark = pytest.mark.slow

MIB = 1024  # in the system's unit, KiB
CLIENT = """
import resource, sys
from pathlib import Path
from pydantic import SecretStr
from prelabel.cli.service_client import ServiceClient
from prelabel.labelstudio.bulk import BulkAPI
from prelabel.labelstudio.import_check import ImportCheck
from prelabel.labelstudio.rest import predict_request
from prelabel.net.egress import Egress
from prelabel.projects.annotate import AnnotateRun, Target
from prelabel.projects.journal import RunJournal

url, token, journal = sys.argv[1:]
studio, service = BulkAPI(url, SecretStr(token)), ServiceClient(url, None, Egress.plain())
project = studio.project(3)
run = AnnotateRun(
    studio,
    lambda tasks: service.predict_tasks(predict_request(project, tasks), len(tasks)),
    RunJournal(Path(journal)), Target(3, "demo-1", []),
    concurrency=4, patience_s=60, observe=lambda _: None,
    fault_of=ImportCheck(project.label_config),
)
before = resource.getrusage(resource.RUSAGE_SELF)
done = run.run().done
usage = resource.getrusage(resource.RUSAGE_SELF)
spent_s = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
print(done, usage.ru_maxrss, spent_s)
"""


BOX = {"x": 1.5, "y": 2.5, "width": 3.5, "height": 4.5, "rotation": 0, "rectanglelabels": ["cat"]}
REGION = {
    "id": "1",
    "from_name": "label",
    "to_name": "image",
    "type": "rectanglelabels",
    "original_width": 640,
    "original_height": 480,
    "image_rotation": 0,
    "score": 0.5,
    "value": BOX,
}
PREDICTION = {"result": [REGION] * 8, "score": 0.5, "model_version": "demo-1"}


class BothServers(ProjectLabelStudio):
    """Label Studio, and a service that finds eight boxes at once. Neither keeps its requests."""

    def respond(self, exchange: Exchange, received: Received) -> None:
        exchange.server.received.clear()
        if received.path == "/predict":
            results = [PREDICTION] * len(json.loads(received.body)["tasks"])
            exchange.answer(200, json.dumps({"results": results}).encode())
        else:
            super().respond(exchange, received)


def annotated(tasks: int, folder: Path) -> tuple[int, int, float]:
    """Return the tasks done, the greatest memory in KiB, and the seconds of processor time.

    Both are those of the client alone, which is a process of its own.
    """
    studio = BothServers(task_ids=list(range(1, tasks + 1)), keeps_results=False)
    with running(studio) as server:
        journal = str(folder / f"{tasks}.sqlite")
        client = [sys.executable, "-c", CLIENT, server.url, studio.token, journal]
        ended = subprocess.run(client, capture_output=True, text=True, check=True, timeout=1800)
    done, memory, processor_s = ended.stdout.split()
    return int(done), int(memory), float(processor_s)


def test_memory_and_processor_time_do_not_grow_with_the_tasks(tmp_path: Path) -> None:
    few, memory_of_few, _ = annotated(1_000, tmp_path)
    many, memory_of_many, processor_s = annotated(10_000, tmp_path)
    assert (few, many) == (1_000, 10_000)
    assert memory_of_many - memory_of_few < 50 * MIB
    assert processor_s / many < 0.003
