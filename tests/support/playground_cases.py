"""Generated answers of POST /playground/candidates, and the boxes that the library chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prelabel.boxes import clip_xyxy
from prelabel.detection.scoring import select_detections
from prelabel.detection.suppression import Suppression, chosen_rows
from prelabel.detection.tiling import Tile, Tiling, merge_views, stack_views
from prelabel.labelstudio.config_text import ConfigLabel
from prelabel.playground.candidates import candidates_answer, shortest_decimals
from prelabel.playground.protocol import CandidatesAnswer, SecondsAnswer
from prelabel.types import (
    Detections,
    LookPlan,
    RawDetections,
    Target,
    TaskPlan,
    Thresholds,
)

_MOST_BOXES = 10_000
_FLOOR = Thresholds(0.02, 0)
_SECONDS = SecondsAnswer(total=0, model=0)


@dataclass(frozen=True)
class PageCase:
    """An answer, a position of the sliders, and the boxes that the library chooses for it."""

    answer: CandidatesAnswer
    thresholds: Thresholds
    suppression: Suppression
    expected: list[list[float]]

    def to_page(self) -> dict[str, Any]:
        """Return the case in the form of the page's module."""
        rule = self.suppression
        return {
            "answer": self.answer,
            "thresholds": {
                "box": self.thresholds.box,
                "text": self.thresholds.text,
                "nms": rule.iou_threshold,
                "agnostic": rule.class_agnostic,
            },
            "limits": {"maxBoxes": rule.max_boxes, "minBoxPx": rule.min_box_px},
        }


def generated_cases(count: int) -> list[PageCase]:
    """Return cases with equal scores, boxes on thresholds, dropped phrases and tiled pictures."""
    return [_case(np.random.default_rng(seed)) for seed in range(count)]


def _case(rng: np.random.Generator) -> PageCase:
    image_wh = (int(rng.integers(50, 1_500)), int(rng.integers(50, 1_500)))
    tiling = Tiling(int(rng.choice([0, 300, 700])), 0.2, 9)
    labels = int(rng.integers(1, 6))
    look = _look(labels, rng)
    views = [
        (view, _raw(rng, int(rng.integers(0, 80)), len(look.phrases)))
        for view in tiling.views(image_wh)
    ]
    # Scores are multiples of 1/64, and thresholds, too: many comparisons are of equal numbers.
    thresholds = Thresholds(*(float(each) / 64 for each in rng.integers(2, 40, 2)))
    suppression = Suppression(
        iou_threshold=float(rng.choice([0, 0.3, 0.5, 0.7, 1])),
        class_agnostic=bool(rng.integers(2)),
        max_boxes=int(rng.choice([5, 300])),
        min_box_px=float(rng.choice([0, 12.5])),
    )
    plan = TaskPlan(looks=(look,))
    named = [ConfigLabel(f"label {number}") for number in range(labels)]
    candidates = stack_views(_selected(views, _FLOOR), _MOST_BOXES)
    found = merge_views(_selected(views, thresholds), _MOST_BOXES)
    boxes = clip_xyxy(found.boxes_xyxy, image_wh)[chosen_rows(look, found, suppression)]
    expected = [shortest_decimals(box) for box in boxes]
    answer = candidates_answer(plan, named, candidates, "demo", _SECONDS)
    return PageCase(answer, thresholds, suppression, expected)


def _look(labels: int, rng: np.random.Generator) -> LookPlan:
    """Return a plan in which phrases share labels, and some are dropped or have no label."""
    targets: list[Target | None] = [
        Target("label", "image", f"label {number}", 0.0) for number in range(labels)
    ]
    targets += [targets[0], Target("label", "image", None, 0.0), None]
    rng.shuffle(targets)  # type: ignore[arg-type]
    phrases = tuple(f"phrase {number}" for number in range(len(targets)))
    return LookPlan("", None, phrases, tuple(targets), _FLOOR)


def _raw(rng: np.random.Generator, count: int, phrases: int) -> RawDetections:
    corners = rng.uniform(-0.05, 1, (count, 2))
    sides = rng.uniform(0.005, 0.4, (count, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    if count > 4:  # the same boxes again, and some that are moved a little
        boxes[count // 2 :] = boxes[: count - count // 2]
        boxes[count // 2 :] += rng.choice([0, 0.02], (count - count // 2, 1)).astype(np.float32)
    most = (rng.integers(0, 50, (count, phrases)) / 64).astype(np.float32)
    return RawDetections(boxes, most, most - np.float32(1 / 64) * (most > 0), 0)


def _selected(
    views: Sequence[tuple[Tile, RawDetections]], thresholds: Thresholds
) -> list[tuple[Tile, Detections]]:
    return [(view, select_detections([raw], thresholds, view.wh)) for view, raw in views]


@dataclass(frozen=True)
class ManyBoxes:
    """An answer with many candidates of many labels."""

    count: int

    def answer(self) -> dict[str, Any]:
        """Return the body of the answer, for a picture of 640 x 480 pixels."""
        rng = np.random.default_rng(0)
        corners = rng.uniform(0, (600, 440), (self.count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 150, (self.count, 2))], axis=1)
        scores = np.sort(rng.beta(1, 4, self.count))[::-1]
        labels = [f"label {number}" for number in range(24)]
        return {
            "image_wh": [640, 480],
            "phrases": [{"phrase": each, "label": each, "dropped": False} for each in labels],
            "labels": labels,
            "boxes_xyxy": boxes.tolist(),
            "scores": scores.tolist(),
            "text_scores": scores.tolist(),
            "phrase_index": rng.integers(0, len(labels), self.count).tolist(),
            "view_index": None,
            "floor": 0.02,
            "notes": [],
            "model_version": "demo",
            "seconds": {"total": 0.1, "model": 0.1},
        }
