"""Boxes of annotations and predictions, and regions of other shapes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from prelabel.labelstudio.box_entries import LabelledBox, read_boxes, valid_entries
from tests.support.fake_annotations import WH, region

BOX = (64, 48, 128, 96)
PCT = (10, 10, 20, 20)


def polygon(**more: Any) -> dict[str, Any]:
    points = [[10, 10], [30, 10], [20, 40]]
    return {
        **region("cat", BOX, kind="polygonlabels", number="p1", **more),
        "value": {"points": points, "closed": True, "polygonlabels": ["cat"]},
    }


def test_a_box_is_read_in_percent_with_label_score_and_size() -> None:
    read = read_boxes(valid_entries([region("cat", BOX, score=0.5, item_index=2)]))
    [box] = read.boxes
    assert box.pct == pytest.approx(PCT)
    assert box == LabelledBox("image", 2, "r1", "cat", box.pct, 0.5, WH)
    assert not read.left_out


def test_a_rectangle_and_its_labels_are_one_box() -> None:
    rectangle = {**region(None, BOX, kind="rectangle"), "from_name": "box"}
    labels = region("cat", BOX, kind="labels")
    for entries in ([rectangle, labels], [labels, rectangle]):
        [box] = read_boxes(valid_entries(entries)).boxes
        assert (box.label, box.id) == ("cat", "r1")
    [unlabelled] = read_boxes(valid_entries([rectangle])).boxes
    assert unlabelled.label is None


def test_a_rotated_box_counts_as_the_upright_box_around_it() -> None:
    entry = region("cat", BOX)
    entry["value"]["rotation"] = 45
    [box] = read_boxes(valid_entries([entry])).boxes
    left, top, right, bottom = (n * side / 100 for n, side in zip(box.pct, WH * 2, strict=True))
    width, height = 64 / math.sqrt(2), 48 / math.sqrt(2)
    expected = [64 - height, 48, 64 + width, 48 + width + height]
    assert [left, top, right, bottom] == pytest.approx(expected)


def test_other_regions_are_counted_and_masks_of_boxes_are_not() -> None:
    entries = [
        region("cat", BOX),
        polygon(parentID="r1"),
        polygon(),
        {**region("cat", BOX, kind="ellipselabels")},
        {**region("cat", BOX), "value": {"x": "no number"}},
        {"type": "choices", "value": {"choices": ["a"]}, "from_name": "c", "to_name": "image"},
        {"type": "relation", "from_id": "r1", "to_id": "r2"},
    ]
    read = read_boxes(valid_entries(entries))
    assert len(read.boxes) == 1
    assert read.left_out == {"polygon": 1, "ellipse": 1, "rectangle": 1}


def test_the_boxes_around_masks_count_where_people_draw_no_boxes() -> None:
    read = read_boxes(valid_entries([polygon()]), masks=True)
    assert [box.pct for box in read.boxes] == [(10, 10, 30, 40)]
    assert read.boxes[0].label == "cat"


def test_entries_that_cannot_be_read_are_passed_over() -> None:
    entries: list[Any] = [None, 5, {"type": 7}, {"value": []}, region("cat", BOX)]
    assert len(read_boxes(valid_entries(entries)).boxes) == 1
    assert valid_entries(None) == valid_entries({"a": 1}) == ()
