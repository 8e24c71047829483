"""Detections -> regions -> one prediction. The only place that writes boxes for Label Studio."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prelabel.boxes import clip_xyxy, iou_xyxy, nms, pct_to_px, px_to_pct
from prelabel.labelstudio.responses import (
    Match,
    Prediction,
    Region,
    RegionValue,
    TaskError,
    TextRegion,
)
from prelabel.types import (
    Detections,
    Floats,
    Ints,
    LookPlan,
    PhraseMatch,
    PresentRegion,
    PromptEcho,
    Target,
)

_PCT_DECIMALS = 4  # a hundredth of a pixel in a picture of 10,000
_SMALLEST_PX = 1e-3  # less is nothing: Label Studio could not show it


@dataclass(frozen=True, slots=True)
class Suppression:
    """How overlapping boxes are thinned out; see the settings of the same names."""

    iou_threshold: float
    class_agnostic: bool
    max_boxes: int
    min_box_px: float = 0


def to_regions(plan: LookPlan, found: Detections, suppression: Suppression) -> list[Region]:
    """The regions of one picture, best first, each with one label of the labeling config."""
    targets = [plan.targets[phrase] for phrase in found.phrase_index]
    clipped = clip_xyxy(found.boxes_xyxy, found.image_wh)
    large_enough = (clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf) >= max(
        suppression.min_box_px, _SMALLEST_PX
    )
    rows = np.array(
        [
            row
            for row, target in enumerate(targets)
            if target is not None and found.scores[row] >= target.min_score and large_enough[row]
        ],
        dtype=np.int64,
    )
    boxes, scores = clipped[rows], found.scores[rows]
    kept_targets = [target for row in rows if (target := targets[row]) is not None]
    phrases = [plan.phrases[phrase] for phrase in found.phrase_index[rows]]
    groups = _groups(kept_targets, suppression.class_agnostic)
    most = len(boxes) if plan.present else suppression.max_boxes
    kept = nms(boxes, scores, groups, suppression.iou_threshold, most)
    if plan.present:
        new = ~_present(boxes, kept_targets, plan.present, found.image_wh, suppression)
        kept = kept[new[kept]]
    kept = kept[: suppression.max_boxes]
    pct = px_to_pct(boxes[kept].astype(np.float64), found.image_wh).round(_PCT_DECIMALS)
    return [
        region
        for box, row in zip(pct.tolist(), kept, strict=True)
        for region in _regions(
            box, float(scores[row]), kept_targets[row], phrases[row], plan, found.image_wh
        )
    ]


def _present(
    boxes_xyxy: Floats,
    targets: Sequence[Target],
    present: Sequence[PresentRegion],
    image_wh: tuple[int, int],
    suppression: Suppression,
) -> NDArray[np.bool_]:
    """Which boxes [N] the annotation has already: under the same label, or, for a box without one,
    under any, because the annotator may have given it one since.
    """
    have = pct_to_px(np.array([region.box_pct for region in present]), image_wh)
    same = np.array(
        [[target.label in (None, region.label) for region in present] for target in targets],
        dtype=bool,
    ).reshape(len(targets), len(present))
    overlap = iou_xyxy(boxes_xyxy.astype(np.float64), have) > suppression.iou_threshold
    found: NDArray[np.bool_] = (overlap & same).any(axis=1)
    return found


def to_prediction(
    regions: Sequence[Region],
    model_version: str,
    echo: PromptEcho | None = None,
    matches: Sequence[PhraseMatch] = (),
) -> Prediction:
    """All regions of a task, the prompt that they come from where it is to be shown, and what
    became of its phrases.
    """
    scores = [region["score"] for region in regions if region["type"] != "labels"]
    texts = [_text_region(echo)] if echo else []
    prediction = Prediction(
        result=[*texts, *regions],
        score=sum(scores) / len(scores) if scores else 0.0,
        model_version=model_version,
    )
    if matches:
        prediction["matches"] = [
            Match(phrase=m.phrase, searched=list(m.searched), label=m.label, step=m.step)
            for m in matches
        ]
    return prediction


def to_task_error(error: Exception, request_id: str) -> TaskError:
    """The entry of a task that failed."""
    return TaskError(error=str(error), error_type=type(error).__name__, request_id=request_id)


def _groups(targets: Sequence[Target], class_agnostic: bool) -> Ints:
    if class_agnostic:
        return np.zeros(len(targets), dtype=np.int64)
    numbers: dict[tuple[str, str | None], int] = {}
    labels = ((target.from_name, target.label) for target in targets)
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _regions(
    box_pct: list[float],
    score: float,
    target: Target,
    phrase: str,
    plan: LookPlan,
    image_wh: tuple[int, int],
) -> list[Region]:
    """The entries of one box: one, or two where the rectangle is another tag's than the label."""
    x, y, right, bottom = box_pct
    box = RegionValue(
        x=x,
        y=y,
        width=round(right - x, _PCT_DECIMALS),
        height=round(bottom - y, _PCT_DECIMALS),
        rotation=0,
    )
    region = Region(
        id=_new_id(),
        from_name=target.rectangle_name or target.from_name,
        to_name=target.to_name,
        type="rectangle" if target.rectangle_name else "rectanglelabels",
        original_width=image_wh[0],
        original_height=image_wh[1],
        image_rotation=0,
        score=round(score, 4),
        value=box,
    )
    if plan.item_index is not None:
        region["item_index"] = plan.item_index
    if target.label is None:
        return [{**region, "meta": {"text": [phrase]}}]
    if target.rectangle_name is None:
        return [{**region, "value": {**box, "rectanglelabels": [target.label]}}]
    labels: RegionValue = {**box, "labels": [target.label]}
    return [
        region,
        {**region, "from_name": target.from_name, "type": "labels", "value": labels},
    ]


def _text_region(echo: PromptEcho) -> TextRegion:
    return TextRegion(
        id=_new_id(),
        from_name=echo.from_name,
        to_name=echo.to_name,
        type="textarea",
        value={"text": [echo.prompt]},
    )


def _new_id() -> str:
    return secrets.token_hex(5)
