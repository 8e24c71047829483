"""Changes that people made to the predicted boxes: the work that a correction cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from prelabel.boxes import iou_xyxy
from prelabel.evaluation.matching import MIN_IOU, greedy_match
from prelabel.evaluation.samples import Boxes, Sample
from prelabel.types import Floats

# Boxes of one region with edges as close as this are the same: predictions are rounded.
_SAME_PX: Final = 0.5
# Without ids: a box that overlaps by this much was kept, and by less it was moved.
_KEPT_IOU, _MOVED_IOU = 0.9, 0.3


@dataclass(frozen=True, slots=True)
class Corrections:
    """Numbers of boxes by what people did.

    Attributes:
        kept: Predicted boxes that stayed as they were.
        moved: Boxes whose edges were changed.
        relabelled: Boxes that got another label, moved or not.
        deleted: Predicted boxes that were removed.
        added: Boxes that people drew.
        pictures: Pictures whose annotation was made from a prediction, which has the regions' ids.
            In the others, boxes are told by their overlap with the evaluated prediction.
    """

    kept: int = 0
    moved: int = 0
    relabelled: int = 0
    deleted: int = 0
    added: int = 0
    pictures: int = 0

    def __add__(self, other: Corrections) -> Corrections:
        return Corrections(
            self.kept + other.kept,
            self.moved + other.moved,
            self.relabelled + other.relabelled,
            self.deleted + other.deleted,
            self.added + other.added,
            self.pictures + other.pictures,
        )

    @property
    def changes(self) -> int:
        """Number of boxes that people had to touch."""
        return self.moved + self.relabelled + self.deleted + self.added


def corrections_of(samples: Sequence[Sample]) -> Corrections:
    """Count the corrections in all pictures."""
    return sum((corrections_in(sample) for sample in samples), Corrections())


def corrections_in(sample: Sample) -> Corrections:
    """Count the corrections in one picture."""
    before = sample.predicted if sample.corrected is None else sample.corrected
    after = sample.truth
    by_id = _same_ids(before, after)
    kept, moved, relabelled = 0, 0, 0
    for b, a in by_id:
        if before.labels[b] != after.labels[a]:
            relabelled += 1
        elif np.abs(before.xyxy[b] - after.xyxy[a]).max() > _SAME_PX:
            moved += 1
        else:
            kept += 1
    iou = iou_xyxy(before.xyxy, after.xyxy)
    for b, a in by_id:
        iou[b, :] = iou[:, a] = -1.0
    same = np.array([[b == a for a in after.labels] for b in before.labels], dtype=bool)
    same = same.reshape(iou.shape)
    by_place = _pairs(np.where(same, iou, -1.0), _MOVED_IOU)
    kept += sum(bool(iou[b, a] >= _KEPT_IOU) for b, a in by_place)
    moved += sum(bool(iou[b, a] < _KEPT_IOU) for b, a in by_place)
    for b, a in by_place:
        iou[b, :] = iou[:, a] = -1.0
    renamed = len(_pairs(iou, MIN_IOU))
    paired = len(by_id) + len(by_place) + renamed
    return Corrections(
        kept,
        moved,
        relabelled + renamed,
        deleted=len(before) - paired,
        added=len(after) - paired,
        pictures=int(sample.corrected is not None),
    )


def _same_ids(before: Boxes, after: Boxes) -> list[tuple[int, int]]:
    rows = {each: row for row, each in enumerate(after.ids) if each is not None}
    return [(row, rows[each]) for row, each in enumerate(before.ids) if each in rows]


def _pairs(iou: Floats, min_iou: float) -> list[tuple[int, int]]:
    matches = greedy_match(iou, min_iou)
    return [(row, int(match)) for row, match in enumerate(matches) if match >= 0]
