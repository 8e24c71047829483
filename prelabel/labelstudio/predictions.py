"""Detections -> regions -> one prediction. No other module creates Label Studio's regions.

In: a look plan and its detections in pixels. Out: regions in percent with labels of the labeling
config, and the prediction of a task, which has the regions of all its pictures.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

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
from prelabel.settings import DetectionSettings
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
_SCORE_DECIMALS = 4
_SMALLEST_PX = 1e-3  # a smaller side would be 0 after rounding, and Label Studio could not show it
_ID_BYTES = 5  # Label Studio's own ids of regions have 10 characters, too


@dataclass(frozen=True, slots=True)
class Suppression:
    """The limits of non-maximum suppression and of box sizes.

    Attributes:
        iou_threshold: Of two boxes that overlap by more than this, the better one is kept.
        class_agnostic: True suppresses boxes of different labels, too.
        max_boxes: The most boxes for one picture.
        min_box_px: The least width and height of a box, in pixels.
    """

    iou_threshold: float
    class_agnostic: bool
    max_boxes: int
    min_box_px: float = 0

    @classmethod
    def of(cls, settings: DetectionSettings) -> Self:
        """Return the limits that the settings give."""
        return cls(
            iou_threshold=settings.nms_iou_threshold,
            class_agnostic=settings.nms_class_agnostic,
            max_boxes=settings.max_boxes,
            min_box_px=settings.min_box_px,
        )


def to_regions(look: LookPlan, detections: Detections, suppression: Suppression) -> list[Region]:
    """Return the regions of one picture, best first.

    Boxes are clipped to the picture. Dropped are the boxes that are too small, that are below their
    target's threshold, that have no target, that a better box suppresses, or that the annotation
    already has.
    """
    clipped = clip_xyxy(detections.boxes_xyxy, detections.image_wh)
    rows, targets = _candidates(look, detections, clipped, suppression)
    boxes, scores = clipped[rows], detections.scores[rows]
    phrases = [look.phrases[phrase] for phrase in detections.phrase_index[rows]]
    groups = _suppression_groups(targets, suppression.class_agnostic)
    # With present boxes, the limit must not count the ones that they replace.
    most = len(boxes) if look.present else suppression.max_boxes
    best = nms(boxes, scores, groups, suppression.iou_threshold, most)
    if look.present:
        is_new = ~_are_present(boxes, targets, look.present, detections.image_wh, suppression)
        best = best[is_new[best]]
    best = best[: suppression.max_boxes]
    pct = px_to_pct(boxes[best].astype(np.float64), detections.image_wh).round(_PCT_DECIMALS)
    return [
        region
        for box, row in zip(pct.tolist(), best, strict=True)
        for region in _box_entries(
            box, float(scores[row]), targets[row], phrases[row], look, detections.image_wh
        )
    ]


def _candidates(
    look: LookPlan, detections: Detections, clipped_xyxy: Floats, suppression: Suppression
) -> tuple[Ints, list[Target]]:
    """Return the rows [K] of boxes with a target and a sufficient score and size; the targets."""
    sizes = (clipped_xyxy[:, 2:] - clipped_xyxy[:, :2]).min(axis=1, initial=np.inf)
    is_large = sizes >= max(suppression.min_box_px, _SMALLEST_PX)
    candidates = [
        (row, target)
        for row, phrase in enumerate(detections.phrase_index)
        if (target := look.targets[phrase]) is not None
        and detections.scores[row] >= target.min_score
        and is_large[row]
    ]
    rows = np.array([row for row, _ in candidates], dtype=np.int64)
    return rows, [target for _, target in candidates]


def _are_present(
    boxes_xyxy: Floats,
    targets: Sequence[Target],
    present: Sequence[PresentRegion],
    image_wh: tuple[int, int],
    suppression: Suppression,
) -> NDArray[np.bool_]:
    """Return a mask [N] of the boxes that the annotation already has under the same label.

    A box without a label is present under any label: the annotator may have assigned one to it.
    """
    present_xyxy = pct_to_px(np.array([region.box_pct for region in present]), image_wh)
    has_same_label = np.array(
        [[target.label in (None, region.label) for region in present] for target in targets],
        dtype=bool,
    ).reshape(len(targets), len(present))
    iou = iou_xyxy(boxes_xyxy.astype(np.float64), present_xyxy)
    are_present: NDArray[np.bool_] = ((iou > suppression.iou_threshold) & has_same_label).any(
        axis=1
    )
    return are_present


def to_prediction(
    regions: Sequence[Region],
    model_version: str,
    echo: PromptEcho | None = None,
    matches: Sequence[PhraseMatch] = (),
) -> Prediction:
    """Return the prediction of a task.

    Args:
        regions: The regions of all its pictures.
        model_version: The version that Label Studio stores with the prediction.
        echo: The prompt, if the prediction shows it.
        matches: The labels of the prompt's phrases.
    """
    # "labels" repeats the score of its rectangle.
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
    """Return the answer for a task that failed."""
    return TaskError(error=str(error), error_type=type(error).__name__, request_id=request_id)


def _suppression_groups(targets: Sequence[Target], class_agnostic: bool) -> Ints:
    """Return the group of each box; boxes suppress only boxes of their own group."""
    if class_agnostic:
        return np.zeros(len(targets), dtype=np.int64)
    numbers: dict[tuple[str, str | None], int] = {}
    labels = ((target.from_name, target.label) for target in targets)
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _box_entries(
    box_pct: list[float],
    score: float,
    target: Target,
    phrase: str,
    look: LookPlan,
    image_wh: tuple[int, int],
) -> list[Region]:
    """Return one entry, or two if the rectangle and the label belong to different control tags."""
    x, y, right, bottom = box_pct
    box = RegionValue(
        x=x,
        y=y,
        width=round(right - x, _PCT_DECIMALS),
        height=round(bottom - y, _PCT_DECIMALS),
        rotation=0,
    )
    # A rectangle and its labels share this id, which is how Label Studio joins the two entries.
    region = Region(
        id=_new_id(),
        from_name=target.rectangle_name or target.from_name,
        to_name=target.to_name,
        type="rectangle" if target.rectangle_name else "rectanglelabels",
        original_width=image_wh[0],
        original_height=image_wh[1],
        image_rotation=0,
        score=round(score, _SCORE_DECIMALS),
        value=box,
    )
    if look.item_index is not None:
        region["item_index"] = look.item_index
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
    return secrets.token_hex(_ID_BYTES)
