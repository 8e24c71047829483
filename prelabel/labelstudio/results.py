"""Detections -> regions -> one prediction. The only place that writes boxes for Label Studio."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prelabel.boxes import clip_xyxy, nms, px_to_pct
from prelabel.labelstudio.protocol import Prediction, Region, TaskError
from prelabel.types import Detections, Ints, LookPlan, Target

_PCT_DECIMALS = 4  # a hundredth of a pixel in a picture of 10,000


@dataclass(frozen=True, slots=True)
class Suppression:
    """How overlapping boxes are thinned out; see the settings of the same names."""

    iou_threshold: float
    class_agnostic: bool
    max_boxes: int


def to_regions(plan: LookPlan, found: Detections, suppression: Suppression) -> list[Region]:
    """The regions of one picture, best first, each with one label of the labeling config."""
    targets = [plan.targets[phrase] for phrase in found.phrase_index]
    rows = np.array(
        [
            row
            for row, target in enumerate(targets)
            if target is not None and found.scores[row] >= target.min_score
        ],
        dtype=np.int64,
    )
    boxes, scores = found.boxes_xyxy[rows], found.scores[rows]
    kept_targets = [target for row in rows if (target := targets[row]) is not None]
    groups = _groups(kept_targets, suppression.class_agnostic)
    kept = nms(boxes, scores, groups, suppression.iou_threshold, suppression.max_boxes)
    edges = clip_xyxy(boxes[kept].astype(np.float64), found.image_wh)
    pct = px_to_pct(edges, found.image_wh).round(_PCT_DECIMALS)
    return [
        _region(box, float(scores[row]), kept_targets[row], plan, found.image_wh)
        for box, row in zip(pct.tolist(), kept, strict=True)
    ]


def to_prediction(regions: Sequence[Region], model_version: str) -> Prediction:
    """All regions of a task. The prompt is not echoed: that would hide the prompt's text box."""
    scores = [region["score"] for region in regions]
    return Prediction(
        result=list(regions),
        score=sum(scores) / len(scores) if scores else 0.0,
        model_version=model_version,
    )


def to_task_error(error: Exception, request_id: str) -> TaskError:
    """The entry of a task that failed."""
    return TaskError(error=str(error), error_type=type(error).__name__, request_id=request_id)


def _groups(targets: Sequence[Target], class_agnostic: bool) -> Ints:
    if class_agnostic:
        return np.zeros(len(targets), dtype=np.int64)
    numbers: dict[tuple[str, str], int] = {}
    labels = ((target.from_name, target.label) for target in targets)
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _region(
    box_pct: list[float], score: float, target: Target, plan: LookPlan, image_wh: tuple[int, int]
) -> Region:
    x, y, right, bottom = box_pct
    region = Region(
        id=uuid.uuid4().hex[:10],
        from_name=target.from_name,
        to_name=target.to_name,
        type="rectanglelabels",
        original_width=image_wh[0],
        original_height=image_wh[1],
        image_rotation=0,
        score=round(score, 4),
        value={
            "x": x,
            "y": y,
            "width": round(right - x, _PCT_DECIMALS),
            "height": round(bottom - y, _PCT_DECIMALS),
            "rotation": 0,
            "rectanglelabels": [target.label],
        },
    )
    if plan.item_index is not None:
        region["item_index"] = plan.item_index
    return region
