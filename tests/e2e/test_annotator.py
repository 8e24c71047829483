"""A person types a prompt into Label Studio's page, accepts the boxes and submits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.browser import annotator_at
from tests.support.demo_cases import Case, Demo, boxes_of, complaints, found, labeling_config
from tests.support.label_studio import Json, LabelStudio

WANTED_RECALL = 0.8  # of drawings in styles that the demo model never saw


@dataclass(frozen=True)
class Submitted:
    """A project of two pictures; the first was annotated in the browser, with its prompt.

    added: the suggestions after a phrase was added to the prompt.
    """

    project: int
    config: str
    first: Case
    second: Case
    second_task: int
    annotations: list[Json]
    added: list[Json]


@pytest.fixture(scope="module")
def submitted(label_studio: LabelStudio, service: str, demo: Demo, artifacts: Path) -> Submitted:
    first, second = demo.overlapping_pair()
    config = labeling_config(sorted({*first.labels, *second.labels}))
    # Without predictions on opening: what the page shows comes from the prompt alone.
    project = label_studio.create_project("Annotating", config, show_collab_predictions=False)
    label_studio.connect(project, service)
    label_studio.upload(project, [(case.image.name, case.image) for case in (first, second)])
    task, second_task = (int(task["id"]) for task in label_studio.tasks(project))
    with annotator_at(label_studio.url, artifacts) as person:
        person.log_in()
        person.open_task(project, task)
        person.switch_on_auto_annotation()
        _, _, shorter = first.prompt.partition(" . ")
        person.type_prompt(shorter)
        person.accept_suggestions()
        added = person.edit_prompt(first.prompt)
        person.accept_suggestions()
        person.submit()
    annotations = label_studio.annotations(task)
    return Submitted(project, config, first, second, second_task, annotations, added)


def test_the_boxes_of_a_typed_prompt_are_stored(submitted: Submitted) -> None:
    [annotation] = submitted.annotations
    boxes = boxes_of(annotation["result"])
    hits = found(submitted.first.boxes, boxes)
    assert len(hits) >= WANTED_RECALL * len(submitted.first.boxes)
    assert {label for label, *_ in boxes} <= set(submitted.first.labels)


def test_an_extended_prompt_suggests_no_second_box_where_the_page_has_one(
    submitted: Submitted,
) -> None:
    added = boxes_of(submitted.added)
    assert {label for label, *_ in added} == {submitted.first.prompt.partition(" . ")[0]}
    [annotation] = submitted.annotations
    boxes = boxes_of(annotation["result"])
    assert len(boxes) == len(set(boxes))
    assert set(added) < set(boxes)


def test_the_prompt_is_stored_beside_its_boxes(submitted: Submitted) -> None:
    [annotation] = submitted.annotations
    texts = [e["value"]["text"] for e in annotation["result"] if e["type"] == "textarea"]
    assert texts == [[submitted.first.prompt]]


def test_the_submitted_prompt_is_used_for_the_project_s_next_task(
    submitted: Submitted, label_studio: LabelStudio
) -> None:
    """The page sends no prompt for it: Label Studio's webhook told the service of the first."""
    label_studio.retrieve_predictions(submitted.project)
    predictions = {p["task"]: p for p in label_studio.predictions(submitted.project)}
    prediction = predictions[submitted.second_task]
    asked = [box for box in submitted.second.boxes if box[0] in submitted.first.labels]
    boxes = boxes_of(prediction["result"])
    assert found(asked, boxes)
    assert {label for label, *_ in boxes} <= set(submitted.first.labels)
    assert complaints(submitted.config, prediction) == []


@pytest.mark.parametrize(("threshold", "boxes"), [(0.99, False), (0.2, True)])
def test_a_number_in_the_page_is_the_threshold_of_the_prompt_typed_after_it(
    threshold: float,
    boxes: bool,
    label_studio: LabelStudio,
    service: str,
    demo: Demo,
    tmp_path: Path,
) -> None:
    case = demo.cases[0]
    number = '<Number name="box_threshold" toName="image" min="0" max="1" step="0.01"/>'
    config = labeling_config(case.labels, number)
    title = f"Threshold {threshold}"
    project = label_studio.create_project(title, config, show_collab_predictions=False)
    label_studio.connect(project, service)
    label_studio.upload(project, [(case.image.name, case.image)])
    [task] = label_studio.tasks(project)
    with annotator_at(label_studio.url, tmp_path) as person:
        person.log_in()
        person.open_task(project, int(task["id"]))
        person.switch_on_auto_annotation()
        person.type_number(threshold)
        (person.type_prompt if boxes else person.type_prompt_in_vain)(case.prompt)
