"""The tutorial's own project, where an annotator types words that are no label of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.browser import annotator_at
from tests.support.demo_cases import Demo, complaints
from tests.support.label_studio import Json, LabelStudio

CONFIG = """<View>
  <Style>.lsf-main-content.lsf-requesting .prompt::before { content: ' loading...'; }</Style>
  <View className="prompt">
    <Header value="Enter a prompt to detect objects in the image:"/>
    <TextArea name="prompt" toName="image" editable="true" rows="2" maxSubmissions="1"
              showSubmitButton="true"/>
  </View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="cats" background="yellow"/>
    <Label value="house" background="blue"/>
  </RectangleLabels>
</View>"""
HOUSE_KEY = "2"  # Label Studio numbers the labels


@dataclass(frozen=True)
class Annotated:
    """A project of two tasks with the same picture, one of them annotated in the browser."""

    project: int
    suggested: list[Json]
    stored: list[Json]
    other_task: int


@pytest.fixture(scope="module")
def annotated(label_studio: LabelStudio, service: str, demo: Demo, artifacts: Path) -> Annotated:
    [picture] = [case.image for case in demo.cases if case.image.name == "yard.jpg"]
    folder = artifacts / "unlabelled"
    folder.mkdir()
    project = label_studio.create_project("Tutorial", CONFIG, show_collab_predictions=False)
    label_studio.connect(project, service)
    label_studio.upload(project, [("one.jpg", picture), ("two.jpg", picture)])
    task, other = (int(task["id"]) for task in label_studio.tasks(project))
    with annotator_at(label_studio.url, folder) as person:
        person.log_in()
        person.open_task(project, task)
        person.switch_on_auto_annotation()
        person.type_prompt("cat . tree")
        person.accept_suggestions()
        suggested = person.regions()
        person.label_first_without_label(HOUSE_KEY)
        person.submit()
    [annotation] = label_studio.annotations(task)
    return Annotated(project, suggested, boxes_in(annotation["result"]), other)


def boxes_in(result: list[Json]) -> list[Json]:
    return [entry for entry in result if entry["type"] == "rectanglelabels"]


def labels_of(boxes: list[Json]) -> Counter[str]:
    return Counter(next(iter(box["value"].get("rectanglelabels", [])), "none") for box in boxes)


def test_a_prompt_s_words_find_labels_and_others_come_without_one(annotated: Annotated) -> None:
    assert labels_of(boxes_in(annotated.suggested)) == {"cats": 2, "none": 2}


def test_a_box_without_a_label_says_what_was_looked_for(annotated: Annotated) -> None:
    [first, *_] = [b for b in boxes_in(annotated.suggested) if "rectanglelabels" not in b["value"]]
    assert first["meta"] == {"text": ["tree"]}


def test_a_key_gives_a_box_its_label_and_submit_stores_all_of_them(annotated: Annotated) -> None:
    assert labels_of(annotated.stored) == {"cats": 2, "house": 1, "none": 1}


def test_in_bulk_there_are_labelled_boxes_only_and_no_batch_is_refused(
    annotated: Annotated, label_studio: LabelStudio
) -> None:
    label_studio.retrieve_predictions(annotated.project)
    predictions = {p["task"]: p for p in label_studio.predictions(annotated.project)}
    prediction = predictions[annotated.other_task]
    assert labels_of(boxes_in(prediction["result"])) == {"cats": 2}
    assert complaints(CONFIG, prediction) == []
