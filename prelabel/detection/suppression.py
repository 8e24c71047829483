"""Choice of the boxes that are kept: thresholds of labels, suppression, limits.

In: the plan of a picture and its detections. Out: the rows of the boxes that become regions. The
detector asks for them before it segments boxes, and Label Studio's regions are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prelabel.boxes import clip_xyxy, iou_xyxy, nms, pct_to_px
from prelabel.settings import DetectionSettings
from prelabel.types import Detections, Floats, Ints, LookPlan, PresentRegion, Target

_SMALLEST_PX = 1e-3  # a smaller side would be 0 after rounding, and Label Studio could not show it


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


def chosen_rows(look: LookPlan, detections: Detections, suppression: Suppression) -> Ints:
    """Return the rows of the boxes that are kept, best first.

    Boxes are clipped to the picture. Dropped are the boxes that are too small, that are below their
    target's threshold, that have no target, that a better box suppresses, or that the annotation
    already has. Of chosen boxes, all are chosen again.
    """
    clipped = clip_xyxy(detections.boxes_xyxy, detections.image_wh)
    rows, targets = _candidates(look, detections, clipped, suppression)
    boxes, scores = clipped[rows], detections.scores[rows]
    groups = _suppression_groups(targets, suppression.class_agnostic)
    # With present boxes, the limit must not count the ones that they replace.
    most = len(boxes) if look.present else suppression.max_boxes
    best = nms(boxes, scores, groups, suppression.iou_threshold, most)
    if look.present:
        is_new = ~_are_present(boxes, targets, look.present, detections.image_wh, suppression)
        best = best[is_new[best]]
    return rows[best[: suppression.max_boxes]]


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


def _suppression_groups(targets: Sequence[Target], class_agnostic: bool) -> Ints:
    """Return the group of each box; boxes suppress only boxes of their own group."""
    if class_agnostic:
        return np.zeros(len(targets), dtype=np.int64)
    numbers: dict[tuple[str, str | None], int] = {}
    labels = ((target.from_name, target.label) for target in targets)
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)
