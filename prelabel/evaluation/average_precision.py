"""Average precision as pycocotools computes it, also for weighted pictures.

pycocotools matches the boxes. Its accumulation is repeated here with a weight for each picture, so
that a thousand resamples of the pictures need one matching.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from prelabel.evaluation.samples import Boxes, Sample
from prelabel.types import Floats, Ints

Bools = NDArray[np.bool_]
Weights = NDArray[np.integer]  # [B, I]: how often each resample has each picture

SIZES: Final = ("all", "small", "medium", "large")  # COCO's: under 32², 96², and over, in pixels
IOUS: Final[Floats] = np.linspace(0.5, 0.95, 10)
_RECALLS: Final[Floats] = np.linspace(0.0, 1.0, 101)
_BLOCK: Final = 1 << 18  # numbers of a block of resamples, which then fits the processor's cache
# pycocotools cuts at 100 boxes of a label and picture. Here the limit is raised to the most there
# are, so that none is left out without notice.
_USUAL_MOST: Final = 100


@dataclass(frozen=True, slots=True, eq=False)
class SizeMatches:
    """The matches of one label for boxes of one size, best score first.

    Attributes:
        scores: [D].
        picture: [D] index of the picture of each predicted box.
        is_true: [10, D] by threshold of IoU: the box finds a box of people.
        is_false: [10, D]: it finds none. Boxes that are neither do not count for this size.
        truth: [I] number of boxes of people in each picture that count for this size.
    """

    scores: Floats
    picture: Ints
    is_true: Bools
    is_false: Bools
    truth: Ints

    def average_precision(self, weights: Weights) -> Floats:
        """Return the average precision by resample and threshold of IoU.

        Args:
            weights: [B, I] how often each resample has each picture.

        Returns:
            [B, 10]; NaN for resamples without boxes of people.
        """
        precision = np.zeros((len(weights), len(IOUS)))
        truth = weights @ self.truth
        rows = max(1, _BLOCK // max(1, len(self.scores)))
        for start in range(0, len(weights), rows):
            block = slice(start, start + rows)
            taken = weights[block][:, self.picture]
            needed = _hits_needed(truth[block])
            for i, (is_true, is_false) in enumerate(zip(self.is_true, self.is_false, strict=True)):
                if is_true.any():
                    seen = np.cumsum(taken * (is_true | is_false), axis=1, dtype=np.int64)
                    precision[block, i] = _mean_precision(
                        seen[:, is_true],
                        np.cumsum(taken[:, is_true], axis=1, dtype=np.int64),
                        needed,
                    )
        precision[truth == 0] = np.nan
        return precision


def _mean_precision(seen: Ints, correct: Ints, needed: Ints) -> Floats:
    """Return the mean precision over 101 recalls, [B].

    Args:
        seen: [B, H] number of boxes up to each hit, best first.
        correct: [B, H] number of hits among them.
        needed: [B, 101] number of hits for each recall.
    """
    # Precision rises at hits only, so that the envelope needs no other places.
    precision = correct / (seen + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # One search for all rows: the counts of each row are moved to a range of their own.
    hits = correct.shape[1]
    row = np.arange(len(correct))[:, None]
    needed = np.minimum(needed, correct[:, -1:] + 1)
    apart = row * (int(correct.max()) + 2)
    places = np.searchsorted((correct + apart).ravel(), (needed + apart).ravel())
    places = places.reshape(needed.shape) - row * hits
    padded = np.concatenate([envelope, np.zeros((len(correct), 1))], axis=1)
    mean: Floats = np.take_along_axis(padded, places, axis=1).mean(axis=1)
    return mean


def _hits_needed(truth: Ints) -> Ints:
    """Return the least number of hits [B, 101] that reaches each recall, by pycocotools' rounding.

    pycocotools compares the quotients of floats, which may round either way.
    """
    total = np.maximum(truth, 1)[:, None]
    needed = np.floor(_RECALLS * total).astype(np.int64)
    needed -= (needed > 0) & ((needed - 1) / total >= _RECALLS)
    needed += needed / total < _RECALLS
    result: Ints = needed
    return result


def match_label(samples: Sequence[Sample], label: str) -> dict[str, SizeMatches]:
    """Match the boxes of one label in all pictures. Return the matches for each of SIZES."""
    rows = [(sample.truth.rows_of(label), sample.predicted.rows_of(label)) for sample in samples]
    concerned = [i for i, (truth, predicted) in enumerate(rows) if len(truth) or len(predicted)]
    if not concerned:
        return {size: _no_matches(len(samples)) for size in SIZES}
    truth = [samples[i].truth.take(rows[i][0]) for i in concerned]
    predicted = [samples[i].predicted.take(rows[i][1]) for i in concerned]
    evaluation = _evaluated(truth, predicted)
    by_size = _chunks(evaluation.evalImgs, len(concerned))
    return {
        size: _of_size(found, concerned, len(samples))
        for size, found in zip(SIZES, by_size, strict=True)
    }


def _evaluated(truth: Sequence[Boxes], predicted: Sequence[Boxes]) -> Any:
    """Return pycocotools' evaluation of one category; picture i has boxes truth[i]."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(_coco(truth), _coco(predicted), "bbox")
        most = max(len(boxes) for boxes in predicted)
        evaluation.params.maxDets = [max(most, _USUAL_MOST)]
        evaluation.evaluate()
    return evaluation


def _coco(pictures: Sequence[Boxes]) -> COCO:
    coco = COCO()
    boxes = [
        (picture, box, float(score))
        for picture, each in enumerate(pictures)
        for box, score in zip(each.xyxy.tolist(), each.scores, strict=True)
    ]
    coco.dataset = {
        "images": [{"id": picture} for picture in range(len(pictures))],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "id": number,  # from 1: 0 stands for "not matched" in pycocotools
                "image_id": picture,
                "category_id": 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
                "score": score,
            }
            for number, (picture, (left, top, right, bottom), score) in enumerate(boxes, 1)
        ],
    }
    coco.createIndex()
    return coco


def _chunks(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))


def _of_size(found: Sequence[Any], pictures: Sequence[int], count: int) -> SizeMatches:
    truth = np.zeros(count, np.int64)
    for number, entry in zip(pictures, found, strict=True):
        truth[number] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
    scores = np.concatenate([entry["dtScores"] for entry in found]).astype(np.float64)
    picture = np.repeat(np.asarray(pictures), [len(entry["dtScores"]) for entry in found])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([entry["dtMatches"] for entry in found], axis=1)[:, order] > 0
    ignored = np.concatenate([entry["dtIgnore"] for entry in found], axis=1)[:, order].astype(bool)
    return SizeMatches(
        scores[order], picture[order], matched & ~ignored, ~matched & ~ignored, truth
    )


def _no_matches(count: int) -> SizeMatches:
    none = np.zeros((len(IOUS), 0), dtype=bool)
    return SizeMatches(np.zeros(0), np.zeros(0, np.int64), none, none, np.zeros(count, np.int64))


def mean_over_labels(by_label: Sequence[Floats]) -> Floats:
    """Return the mean over the labels that have boxes of people, as COCO does; NaN without any.

    Args:
        by_label: For each label an array of the same shape, with NaN where the label has none.
    """
    stacked = np.stack(by_label)
    is_there = ~np.isnan(stacked)
    count = is_there.sum(axis=0)
    total = np.where(is_there, stacked, 0.0).sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean
