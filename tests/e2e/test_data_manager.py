"""Twenty uploads and the Data Manager's "Retrieve Predictions"."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from itertools import cycle, islice

import pytest

from tests.support.demo_cases import Case, Demo, boxes_of, complaints, found
from tests.support.label_studio import Json, LabelStudio

TASKS = 20
WANTED_RECALL = 0.7  # all labels of all pictures at once, drawings in styles never seen
LOG = logging.getLogger("e2e")


@dataclass(frozen=True)
class Retrieved:
    """A project of twenty pictures after one retrieval: each case with its task's id."""

    project: int
    cases: dict[int, Case]
    predictions: list[Json]


@pytest.fixture(scope="module")
def retrieved(label_studio: LabelStudio, service: str, demo: Demo) -> Retrieved:
    cases = list(islice(cycle(demo.cases), TASKS))
    project = label_studio.create_project("Data Manager", demo.config)
    label_studio.connect(project, service)
    label_studio.upload(
        project, [(f"{i:02d}-{c.image.name}", c.image) for i, c in enumerate(cases)]
    )
    tasks = [int(task["id"]) for task in label_studio.tasks(project)]
    started = time.monotonic()
    label_studio.retrieve_predictions(project)
    LOG.info("%d uploads predicted in %.1f s.", TASKS, time.monotonic() - started)
    return Retrieved(
        project, dict(zip(tasks, cases, strict=True)), label_studio.predictions(project)
    )


def test_each_of_twenty_tasks_gets_one_prediction(retrieved: Retrieved) -> None:
    assert sorted(p["task"] for p in retrieved.predictions) == sorted(retrieved.cases)


def test_predictions_satisfy_label_studio(retrieved: Retrieved, demo: Demo) -> None:
    assert {p["task"]: complaints(demo.config, p) for p in retrieved.predictions} == {
        task: [] for task in retrieved.cases
    }


def test_every_region_has_a_label_of_the_project(retrieved: Retrieved, demo: Demo) -> None:
    known = {label for case in demo.cases for label in case.labels}
    regions = [region for p in retrieved.predictions for region in p["result"]]
    assert regions
    assert all(set(region["value"]["rectanglelabels"]) <= known for region in regions)
    assert all(len(region["value"]["rectanglelabels"]) == 1 for region in regions)


def test_most_objects_are_found_where_they_are(retrieved: Retrieved) -> None:
    truth = [box for p in retrieved.predictions for box in retrieved.cases[p["task"]].boxes]
    hits = [
        box
        for p in retrieved.predictions
        for box in found(retrieved.cases[p["task"]].boxes, boxes_of(p["result"]))
    ]
    LOG.info("Found %d of %d objects, looking for all labels at once.", len(hits), len(truth))
    assert len(hits) >= WANTED_RECALL * len(truth)


def test_retrieving_again_adds_nothing(retrieved: Retrieved, label_studio: LabelStudio) -> None:
    label_studio.retrieve_predictions(retrieved.project)
    again = label_studio.predictions(retrieved.project)
    assert [p["id"] for p in again] == [p["id"] for p in retrieved.predictions]
