"""The rule by which the playground's page chooses boxes, written as plainly as the page has it.

docs: deployments/playground.py. All numbers are float32, one operation at a time, as with
`Math.fround` in a browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SAME_OBJECT_IOU = 0.5
SMALLEST_PX = 1e-3


@dataclass(frozen=True)
class Sliders:
    """Positions of the page's sliders, and the settings that have none."""

    box: float
    text: float
    nms_iou: float = 0.7
    class_agnostic: bool = False
    max_boxes: int = 300
    min_box_px: float = 1.0


def chosen_by_page(answer: dict[str, Any], sliders: Sliders) -> list[int]:
    """Return the rows of the boxes that the page shows, best first."""
    boxes = np.array(answer["boxes_xyxy"], np.float32).reshape(-1, 4)
    scores = np.array(answer["scores"], np.float32)
    text_scores = np.array(answer["text_scores"], np.float32)
    phrase_of, views = answer["phrase_index"], answer["view_index"]
    rows = [
        row
        for row in range(len(boxes))
        if scores[row] >= np.float32(sliders.box) and text_scores[row] >= np.float32(sliders.text)
    ]
    if views is not None:
        rows = _greedy(
            rows,
            boxes,
            SAME_OBJECT_IOU,
            lambda a, b: phrase_of[a] == phrase_of[b] and views[a] != views[b],
        )
    phrases = answer["phrases"]
    least = np.float32(max(sliders.min_box_px, SMALLEST_PX))
    rows = [
        row
        for row in rows
        if not phrases[phrase_of[row]]["dropped"]
        and min(boxes[row, 2] - boxes[row, 0], boxes[row, 3] - boxes[row, 1]) >= least
    ]

    def label(row: int) -> str | None:
        named: str | None = phrases[phrase_of[row]]["label"]
        return named

    kept = _greedy(
        rows, boxes, sliders.nms_iou, lambda a, b: sliders.class_agnostic or label(a) == label(b)
    )
    return kept[: sliders.max_boxes]


def _greedy(rows: Sequence[int], boxes: Any, iou_threshold: float, rivals: Any) -> list[int]:
    kept: list[int] = []
    for row in rows:
        if not any(
            rivals(better, row) and _iou(boxes[better], boxes[row]) > np.float32(iou_threshold)
            for better in kept
        ):
            kept.append(row)
    return kept


def _iou(a: Any, b: Any) -> Any:
    zero = np.float32(0)
    width = max(min(a[2], b[2]) - max(a[0], b[0]), zero)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    intersection = width * height
    union = _area(a) + _area(b) - intersection
    return intersection / union if union > 0 else zero


def _area(box: Any) -> Any:
    zero = np.float32(0)
    return max(box[2] - box[0], zero) * max(box[3] - box[1], zero)
