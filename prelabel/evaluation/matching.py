"""Greedy matching of predicted boxes to those of people, as COCO's evaluation matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from prelabel.boxes import iou_xyxy
from prelabel.evaluation.samples import NO_LABEL, Boxes, Sample
from prelabel.types import Floats, Ints

MIN_IOU: Final = 0.5  # of a predicted box with the box that it finds
_UNMATCHED: Final = -1


def greedy_match(iou: Floats, min_iou: float) -> Ints:
    """Match each predicted box, best first, to the free box of people that it overlaps most.

    Args:
        iou: [P, T] intersection over union, with the predicted boxes by falling score.
        min_iou: Least intersection over union of a match.

    Returns:
        [P] index of the box of people, -1 without a match.
    """
    matches = np.full(len(iou), _UNMATCHED, np.int64)
    free = np.ones(iou.shape[1], dtype=bool)
    for row, overlaps in enumerate(iou):
        candidates = np.where(free, overlaps, -1.0)
        if candidates.size and candidates.max() >= min_iou:
            # Of equal overlaps the last one, as in pycocotools.
            best = candidates.size - 1 - int(np.argmax(candidates[::-1]))
            matches[row], free[best] = best, False
    return matches


@dataclass(frozen=True, slots=True, eq=False)
class PictureMatches:
    """The outcome of each box of one picture.

    Attributes:
        found: Pairs (predicted, truth) of boxes with the same label.
        mislabelled: Pairs of boxes at the same place with different labels.
        false: Predicted boxes without a counterpart.
        missed: Boxes of people without a counterpart.
    """

    found: tuple[tuple[int, int], ...]
    mislabelled: tuple[tuple[int, int], ...]
    false: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def wrong(self) -> int:
        """Number of boxes that are false, missed or under another label."""
        return len(self.false) + len(self.missed) + len(self.mislabelled)


def match_picture(predicted: Boxes, truth: Boxes, min_iou: float = MIN_IOU) -> PictureMatches:
    """Match the boxes of one picture: within each label first, then the others across labels.

    The first step gives the true positives that precision and recall count; the second step tells
    a wrong label from a wrong box. Boxes without a label take part in the second step only.
    """
    order = np.argsort(-predicted.scores, kind="stable")
    iou = iou_xyxy(predicted.xyxy, truth.xyxy)
    same = np.array(
        [[p == t != NO_LABEL for t in truth.labels] for p in predicted.labels], dtype=bool
    ).reshape(iou.shape)
    found = _pairs(np.where(same, iou, -1.0), order, min_iou)
    left = iou.copy()
    for p, t in found:
        left[p, :] = left[:, t] = -1.0
    mislabelled = _pairs(left, order, min_iou)
    ended_p = {p for p, _ in (*found, *mislabelled)}
    ended_t = {t for _, t in (*found, *mislabelled)}
    return PictureMatches(
        tuple(found),
        tuple(mislabelled),
        tuple(p for p in range(len(predicted)) if p not in ended_p),
        tuple(t for t in range(len(truth)) if t not in ended_t),
    )


def match_all(samples: Sequence[Sample]) -> list[PictureMatches]:
    """Match the boxes of each picture."""
    return [match_picture(sample.predicted, sample.truth) for sample in samples]


def _pairs(iou: Floats, order: Ints, min_iou: float) -> list[tuple[int, int]]:
    matches = greedy_match(iou[order], min_iou)
    return [(int(p), int(t)) for p, t in zip(order, matches, strict=True) if t != _UNMATCHED]
