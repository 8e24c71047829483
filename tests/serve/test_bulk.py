"""All tasks of a large project in one request, as "Retrieve predictions" sends them."""

import logging
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measurement import percentile
from tests.support.replicas import replicas
from tests.support.result_entries import typed
from tests.support.scenes import fresh
from tests.support.service_client import CONFIG, Service

LOG = logging.getLogger(__name__)
TASKS = 1000
BATCH = 8  # detection.max_batch_size
GROWTH_MIB = 500  # of a replica, for full batches; the decoded pictures are 900 MiB


def ask_once(service: Service) -> float:
    """Return the seconds of one interactive request."""
    [picture] = fresh()
    began = time.monotonic()
    [entry] = service.predict(picture, context=[typed("red circle . blue square")])
    assert len(entry["result"]) == 2
    return time.monotonic() - began


def batch_once(service: Service) -> float:
    """Return the seconds for the pictures of one batch."""
    pictures = fresh(BATCH)
    began = time.monotonic()
    service.predict(*pictures)
    return time.monotonic() - began


def retrieve(service: Service, pending: list[int]) -> tuple[dict[int, dict[str, Any]], float]:
    """Request predictions as Label Studio does; return those without an error, and the seconds."""
    tasks = [{"id": i, "data": {"image": f"/data/upload/1/{i}.jpg"}} for i in pending]
    body = {"tasks": tasks, "project": "1.1", "label_config": CONFIG, "params": {"context": None}}
    began = time.monotonic()
    answer = service.post("/predict", body)
    seconds = time.monotonic() - began
    assert answer.status_code == 200
    entries = answer.json()["results"]
    assert len(entries) == len(pending)
    left = [entry for entry in entries if "error" in entry]
    assert {entry["error_type"] for entry in left} <= {"DeadlineError"}
    assert not any("result" in entry for entry in left)  # so that they are asked for again
    stored = {i: entry for i, entry in zip(pending, entries, strict=True) if "error" not in entry}
    return stored, seconds


def begin_to_count(process: Path) -> float:
    """Reset the peak of a process's memory; return it in MiB."""
    (process / "clear_refs").write_text("5")
    return most_mib(process)


def most_mib(process: Path) -> float:
    """Return the peak of a process's memory since the reset, in MiB."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


@pytest.mark.timeout(900)
def test_a_thousand_tasks_are_all_stored_once_in_little_memory_and_annotators_do_not_wait(
    service: Service,
) -> None:
    undisturbed = statistics.median(ask_once(service) for _ in range(5))
    batch = statistics.median(batch_once(service) for _ in range(3))
    processes = replicas()
    before = {process: begin_to_count(process) for process in processes}

    waits: list[float] = []
    done = threading.Event()

    def annotate() -> None:
        while not done.wait(1.0):
            waits.append(ask_once(service))

    stored: dict[int, dict[str, Any]] = {}
    rounds = []
    annotator = threading.Thread(target=annotate)
    annotator.start()
    try:
        while len(stored) < TASKS:
            found, seconds = retrieve(service, [i for i in range(TASKS) if i not in stored])
            assert found
            assert not set(found) & set(stored)
            stored |= found
            rounds.append(seconds)
    finally:
        done.set()
        annotator.join()
    LOG.info(
        "%d tasks in %s s; an annotator waits %.2f s alone, a batch takes %.2f s",
        TASKS,
        rounds,
        undisturbed,
        batch,
    )
    LOG.info(
        "an annotator waits %.2f s in the median, %.2f s in nine of ten times, %.2f s at worst",
        statistics.median(waits),
        percentile(waits, 90),
        max(waits),
    )
    growth = {name: most_mib(process) - before[process] for process, name in processes.items()}
    LOG.info("grown at most by, in MiB: %s", growth)
    assert growth.keys() >= {"Ingress", "Detector", "Postprocessor"}
    assert max(growth.values()) < GROWTH_MIB
    assert {len(entry["result"]) for entry in stored.values()} == {2}
    # An annotator's request waits for the rest of one batch at most, so that many are answered
    # while the bulk runs; behind the bulk, each would be answered at the end of a round. The times
    # depend on the machine: they are logged here, and judged by the benchmark.
    assert len(waits) > 5 * len(rounds) + 5
