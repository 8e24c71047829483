"""Masks in Label Studio's page: from a typed prompt, in bulk, and from clicks."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from PIL import Image

from tests.support.browser import annotator_at
from tests.support.demo_cases import (
    Case,
    Demo,
    boxes_of,
    complaints,
    found,
    segmentation_config,
)
from tests.support.label_studio import Json, LabelStudio
from tests.support.masks import drawn

WANTED_RECALL = 0.8  # of drawings in styles that the demo model never saw
KEY_POINTS = "KeyPointLabels"
TAGS = {
    "BrushLabels": "brushlabels",
    "PolygonLabels": "polygonlabels",
    "BitmaskLabels": "bitmasklabels",
}


def pixels(region: Json) -> Any:
    """Return the mask of a region as Label Studio's own library or Pillow reads it."""
    value, width, height = region["value"], region["original_width"], region["original_height"]
    if "rle" in value:
        values = np.asarray(decode_rle(value["rle"]), np.uint8)
        return values.reshape(height, width, 4)[..., 3] > 0
    if "imageDataURL" in value:
        return png_of(value["imageDataURL"], (width, height))
    return drawn([np.array(value["points"]) * (width / 100, height / 100)], (width, height))


def png_of(url: str, image_wh: tuple[int, int]) -> Any:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2])))
    assert image.size == image_wh
    return np.asarray(image.convert("RGBA"))[..., 3] > 0


def check_masks(result: list[Json], kind: str, case: Case) -> None:
    """Each box has its mask, with its label and score, inside of it and on the object."""
    boxes = {region["id"]: region for region in result if region["type"] == "rectanglelabels"}
    masks = [region for region in result if region["type"] == kind]
    assert {mask["parentID"] for mask in masks} == set(boxes)
    for mask in masks:
        box = boxes[mask["parentID"]]
        assert mask["value"][kind] == box["value"]["rectanglelabels"]
        assert mask["score"] == box["score"]
        assert mask["from_name"] == "label2"
    by_label = {mask["value"][kind][0]: np.zeros((1, 1), bool) for mask in masks}
    for mask in masks:  # parts of one mask together
        by_label[mask["value"][kind][0]] = by_label[mask["value"][kind][0]] | pixels(mask)
    for label, x, y, width, height in case.boxes:
        if label in by_label:
            height_px, width_px = by_label[label].shape
            rows, columns = np.nonzero(by_label[label])
            middle = (columns.mean() / width_px * 100, rows.mean() / height_px * 100)
            assert x < middle[0] < x + width
            assert y < middle[1] < y + height


@pytest.mark.parametrize(("tag", "kind"), TAGS.items())
def test_a_prompt_suggests_boxes_with_masks_which_are_accepted_submitted_and_stored(
    tag: str,
    kind: str,
    label_studio: LabelStudio,
    service: str,
    demo: Demo,
    artifacts: Path,
) -> None:
    case, other = demo.overlapping_pair()
    config = segmentation_config(tag, sorted({*case.labels, *other.labels}))
    title = f"Masks by {tag}"
    project = label_studio.create_project(title, config, show_collab_predictions=False)
    label_studio.connect(project, service)
    label_studio.upload(project, [(each.image.name, each.image) for each in (case, other)])
    task, other_task = (int(task["id"]) for task in label_studio.tasks(project))
    screenshots = artifacts / tag
    screenshots.mkdir()
    with annotator_at(label_studio.url, screenshots) as person:
        person.log_in()
        person.open_task(project, task)
        person.switch_on_auto_annotation()
        person.type_prompt(case.prompt)
        person.accept_suggestions()
        person.submit()
    [annotation] = label_studio.annotations(task)
    check_masks(annotation["result"], kind, case)
    assert len(found(case.boxes, boxes_of(annotation["result"]))) >= WANTED_RECALL * len(case.boxes)

    label_studio.retrieve_predictions(project)
    [prediction] = [p for p in label_studio.predictions(project) if p["task"] == other_task]
    check_masks(prediction["result"], kind, other)
    assert any(region["type"] == kind for region in prediction["result"])
    assert complaints(config, prediction) == []


def test_clicks_give_a_mask_and_refine_it(
    label_studio: LabelStudio, service: str, demo: Demo, artifacts: Path
) -> None:
    case = demo.cases[0]
    # The middle of its box is on its body.
    label, x, y, width, height = next(box for box in case.boxes if box[0] == "horse")
    keys = "".join(f'<Label value="{each}"/>' for each in case.labels)
    points = f'<{KEY_POINTS} name="kp" toName="image" smart="true">{keys}</{KEY_POINTS}>'
    config = segmentation_config("BrushLabels", case.labels, points)
    project = label_studio.create_project("Clicks", config, show_collab_predictions=False)
    label_studio.connect(project, service)
    label_studio.upload(project, [(case.image.name, case.image)])
    [task] = (int(task["id"]) for task in label_studio.tasks(project))
    screenshots = artifacts / "clicks"
    screenshots.mkdir()
    key = str(case.labels.index(label) + 1)
    middle = (x + width / 2, y + height / 2)
    with annotator_at(label_studio.url, screenshots) as person:
        person.log_in()
        person.open_task(project, task)
        person.switch_on_auto_annotation()
        person.choose_smart_tool()
        answers = [
            person.click_smartly(key, middle),
            person.click_smartly(key, (x + 0.4 * width, y + 0.45 * height)),
            person.click_smartly(key, (x + 0.05 * width, y + 0.95 * height), inside=False),
        ]
        person.accept_suggestions()
        person.submit()
    masks = []
    for answer in answers:
        box, brush = answer
        assert (box["type"], brush["type"]) == ("rectanglelabels", "brushlabels")
        assert box["value"]["rectanglelabels"] == brush["value"]["brushlabels"] == [label]
        masks.append(pixels(brush))
    row, column = (
        int(middle[1] / 100 * masks[0].shape[0]),
        int(middle[0] / 100 * masks[0].shape[1]),
    )
    assert all(mask[row, column] for mask in masks)
    assert not (masks[0] == masks[1]).all()
    assert not (masks[1] == masks[2]).all()
    [annotation] = label_studio.annotations(task)
    stored = {region["type"]: region for region in annotation["result"]}
    assert set(stored) == {"rectanglelabels", "brushlabels"}
    assert stored["brushlabels"]["parentID"] == stored["rectanglelabels"]["id"]
    assert (pixels(stored["brushlabels"]) == masks[2]).mean() > 0.999
