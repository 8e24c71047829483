"""The report of an evaluation: all measures of a project's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from prelabel.evaluation.advice import Advice, Wish, advise
from prelabel.evaluation.agreement import Agreement, agreement_of
from prelabel.evaluation.average_precision import (
    SIZES,
    Weights,
    match_label,
    mean_over_labels,
)
from prelabel.evaluation.bootstrap import Estimate, Resamples
from prelabel.evaluation.corrections import Corrections, corrections_of
from prelabel.evaluation.counts import Counts, Curve, LabelCounter, OperatingPoint, once
from prelabel.evaluation.matching import PictureMatches, match_all
from prelabel.evaluation.samples import Boxes, Sample, labels_in
from prelabel.types import Floats, Ints

_IOU_50, _IOU_75 = 0, 5  # places in IOUS
_WORST: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class LabelReport:
    """The measures of one label.

    Attributes:
        label: The label.
        truth: Number of boxes of people.
        predicted: Number of predicted boxes over the threshold.
        threshold: The threshold that applies now; None if it is not known.
        ap: Average precision over IoU .5 to .95; `ap50` at .5.
        point: Precision, recall and F1 at the threshold.
        curve: Precision and recall over all thresholds.
    """

    label: str
    truth: int
    predicted: int
    threshold: float | None
    ap: Estimate
    ap50: Estimate
    point: OperatingPoint
    curve: Curve


@dataclass(frozen=True, slots=True)
class SizeReport:
    """The measures of boxes of one size: small, medium or large."""

    size: str
    truth: int
    ap: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class Wrong:
    """A picture with wrong boxes."""

    sample: Sample
    matches: PictureMatches


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All measures.

    Attributes:
        pictures: Number of pictures; `negatives` of them have no box of people.
        truth: Number of boxes of people.
        predicted: Number of predicted boxes over the thresholds.
        ap: Average precision over IoU .5 to .95, mean of the labels; `ap50`, `ap75` at one IoU.
        point: Precision, recall and F1 of all boxes at the thresholds.
        labels: The measures of each label.
        sizes: The measures of boxes by size.
        confusion: [L + 1, L + 1] number of boxes by the label of people (row) and of the model
            (column); the last row and column count boxes without a counterpart.
        corrections: Changes that people made to predicted boxes.
        agreement: Agreement of people; None if each picture was annotated by one.
        worst: The pictures with most wrong boxes, worst first.
        advice: Proposed thresholds, if they were asked for.
        resamples: Number of resamples behind the intervals; 0 without intervals.
    """

    pictures: int
    negatives: int
    truth: int
    predicted: int
    ap: Estimate
    ap50: Estimate
    ap75: Estimate
    point: OperatingPoint
    labels: tuple[LabelReport, ...]
    sizes: tuple[SizeReport, ...]
    confusion: Ints
    corrections: Corrections
    agreement: Agreement | None
    worst: tuple[Wrong, ...]
    advice: Advice | None
    resamples: int


def report_on(
    samples: Sequence[Sample],
    *,
    labels: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
    annotated: Sequence[Sequence[Boxes]] = (),
    wish: Wish | None = None,
    lowest: float = 0.0,
) -> Report:
    """Measure predicted boxes against those of people.

    Args:
        samples: The pictures.
        labels: The labels of the project, in their order.
        thresholds: Least score of the boxes of each label that count, except in curves and advice;
            0 for labels that are left out. None if all predicted boxes count.
        annotated: For each picture the boxes of each person.
        wish: The goal of proposed thresholds, if any are wanted.
        lowest: Least threshold that can be proposed.
    """
    names = labels_in(samples, labels)
    applied = {name: (thresholds or {}).get(name, 0.0) for name in names}
    shown = [sample.over(applied) for sample in samples]
    boxes = sum(len(sample.predicted) for sample in shown)
    measures = _Measures(shown, names, Resamples.of(len(samples), boxes))
    matches = {name: match_label(samples, name)["all"] for name in names}
    outcome = match_all(shown)
    return Report(
        pictures=len(samples),
        negatives=sum(not len(sample.truth) for sample in samples),
        truth=sum(len(sample.truth) for sample in samples),
        predicted=boxes,
        ap=measures.overall("all"),
        ap50=measures.overall("all", _IOU_50),
        ap75=measures.overall("all", _IOU_75),
        point=measures.point(names),
        labels=tuple(
            measures.label(
                name,
                None if thresholds is None else applied[name],
                LabelCounter(matches[name]).curve(),
            )
            for name in names
        ),
        sizes=tuple(
            SizeReport(size, measures.truth(size), measures.overall(size)) for size in SIZES[1:]
        ),
        confusion=_confusion(shown, outcome, names),
        corrections=corrections_of(shown),
        agreement=agreement_of(annotated),
        worst=_worst(shown, outcome),
        advice=advise(samples, matches, applied, wish, lowest=lowest) if wish else None,
        resamples=len(measures.resamples.drawn),
    )


class _Measures:
    """The measures of the labels, computed once for the pictures and for their resamples."""

    def __init__(
        self, samples: Sequence[Sample], labels: Sequence[str], resamples: Resamples
    ) -> None:
        self.resamples = resamples
        self._labels = {label: match_label(samples, label) for label in labels}
        self._weights = (once(len(samples)), resamples.drawn, resamples.halves)
        # By label and size: the average precisions of each of the weights, [B, 10].
        self._ap: dict[tuple[str, str], list[Floats]] = {
            (label, size): [by_size[size].average_precision(each) for each in self._weights]
            for label, by_size in self._labels.items()
            for size in SIZES
        }

    def truth(self, size: str) -> int:
        """Return the number of boxes of people of a size."""
        return sum(int(by_size[size].truth.sum()) for by_size in self._labels.values())

    def overall(self, size: str, iou: int | None = None) -> Estimate:
        """Return the mean of the labels' average precisions, at one IoU or over all."""
        if not self._labels:
            return Estimate(None)
        means = [
            mean_over_labels([self._ap[label, size][i] for label in self._labels])
            for i in range(len(self._weights))
        ]
        return self._estimate(means, iou, self.truth(size))

    def label(self, label: str, threshold: float | None, curve: Curve) -> LabelReport:
        """Return the measures of one label."""
        found = self._labels[label]["all"]
        truth = int(found.truth.sum())
        return LabelReport(
            label=label,
            truth=truth,
            predicted=len(found.scores),
            threshold=threshold,
            ap=self._estimate(self._ap[label, "all"], None, truth),
            ap50=self._estimate(self._ap[label, "all"], _IOU_50, truth),
            point=self.point([label]),
            curve=curve,
        )

    def point(self, labels: Sequence[str]) -> OperatingPoint:
        """Return precision, recall and F1 of the boxes of some labels."""
        counts, drawn = (self._counts(labels, each) for each in self._weights[:2])
        return OperatingPoint.of(counts, drawn, self.resamples)

    def _counts(self, labels: Sequence[str], weights: Weights) -> Counts:
        nothing: Ints = np.zeros(len(weights), np.int64)
        total = Counts(nothing, nothing, nothing)
        for label in labels:
            total += LabelCounter(self._labels[label]["all"]).count(0.0, weights)
        return total

    def _estimate(self, by_weights: Sequence[Floats], iou: int | None, truth: int) -> Estimate:
        once_, drawn, halves = (
            each.mean(axis=1) if iou is None else each[:, iou] for each in by_weights
        )
        return self.resamples.average_precision(float(once_[0]), drawn, halves, truth)


def _confusion(
    samples: Sequence[Sample], outcome: Sequence[PictureMatches], labels: Sequence[str]
) -> Ints:
    place = {label: i for i, label in enumerate(labels)}
    background = len(labels)
    confusion = np.zeros((background + 1, background + 1), np.int64)
    for sample, matches in zip(samples, outcome, strict=True):
        truth = [place.get(label, background) for label in sample.truth.labels]
        predicted = [place.get(label, background) for label in sample.predicted.labels]
        for p, t in (*matches.found, *matches.mislabelled):
            confusion[truth[t], predicted[p]] += 1
        for p in matches.false:
            confusion[background, predicted[p]] += 1
        for t in matches.missed:
            confusion[truth[t], background] += 1
    return confusion


def _worst(samples: Sequence[Sample], outcome: Sequence[PictureMatches]) -> tuple[Wrong, ...]:
    """Return the pictures with most wrong boxes; of equal ones, that with the surest false ones."""
    wrong = [
        Wrong(sample, matches)
        for sample, matches in zip(samples, outcome, strict=True)
        if matches.wrong
    ]
    wrong.sort(key=lambda each: (-each.matches.wrong, -_certainty(each), each.sample.task))
    return tuple(wrong[:_WORST])


def _certainty(wrong: Wrong) -> float:
    """Return the sum of the scores of the wrong predicted boxes."""
    rows = [*wrong.matches.false, *(p for p, _ in wrong.matches.mislabelled)]
    return float(wrong.sample.predicted.scores[rows].sum()) if rows else 0.0
