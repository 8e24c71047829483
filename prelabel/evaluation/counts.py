"""Precision, recall and F1 of one label over thresholds, for weighted pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prelabel.evaluation.average_precision import Bools, SizeMatches, Weights
from prelabel.evaluation.bootstrap import Estimate, Resamples
from prelabel.types import Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Numbers of boxes, of one or several labels, by resample [B].

    Attributes:
        hits: Predicted boxes that find a box of people.
        predicted: Predicted boxes.
        truth: Boxes of people.
    """

    hits: Ints
    predicted: Ints
    truth: Ints

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits, self.predicted + other.predicted, self.truth + other.truth
        )

    @property
    def precision(self) -> Floats:
        """Share of the predicted boxes that find a box; NaN without predicted boxes."""
        return _share(self.hits, self.predicted)

    @property
    def recall(self) -> Floats:
        """Share of the boxes of people that are found; NaN without such boxes."""
        return _share(self.hits, self.truth)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall; NaN without any boxes."""
        return _share(2 * self.hits, self.predicted + self.truth)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall of one label, by falling threshold.

    Attributes:
        thresholds: [N] the distinct scores.
        precision: [N] with the boxes that reach the threshold.
        recall: [N]; 0 without boxes of people.
    """

    thresholds: Floats
    precision: Floats
    recall: Floats

    @property
    def f1(self) -> Floats:
        """The harmonic mean of both [N]."""
        total = self.precision + self.recall
        f1: Floats = np.divide(
            2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0
        )
        return f1


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounter:
    """Counts the boxes of one label from its matches at IoU .5.

    Matching is greedy by score, so that one matching serves all thresholds: the boxes over a
    threshold are matched as they would be without the others.
    """

    matches: SizeMatches

    def count(self, threshold: float, weights: Weights) -> Counts:
        """Count the boxes whose scores reach a threshold, for weights [B, I] of the pictures."""
        return self.count_all([threshold], weights)[0]

    def count_all(self, thresholds: list[float], weights: Weights) -> list[Counts]:
        """Count for several thresholds."""
        size = weights.shape[1]
        truth = weights @ self.matches.truth
        counts = []
        for threshold in thresholds:
            over = self.matches.scores >= threshold
            hits = np.bincount(self.matches.picture[over & self._is_true], minlength=size)
            predicted = np.bincount(self.matches.picture[over], minlength=size)
            counts.append(Counts(weights @ hits, weights @ predicted, truth))
        return counts

    def curve(self) -> Curve:
        """Return precision and recall at each score."""
        scores = self.matches.scores
        if not len(scores):
            return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
        last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of equal scores
        hits = np.cumsum(self._is_true)[last]
        truth = int(self.matches.truth.sum())
        recall = hits / truth if truth else np.zeros(len(last))
        return Curve(scores[last], hits / (last + 1), recall)

    @property
    def _is_true(self) -> Bools:
        is_true: Bools = self.matches.is_true[0]
        return is_true


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Precision, recall and F1 at thresholds that are given."""

    precision: Estimate
    recall: Estimate
    f1: Estimate

    @classmethod
    def of(cls, counts: Counts, drawn: Counts, resamples: Resamples) -> OperatingPoint:
        """Return the estimates.

        Args:
            counts: Of the pictures themselves, [1].
            drawn: Of the resamples, [B].
            resamples: The resamples.
        """
        hits, predicted, truth = (
            float(each[0]) for each in (counts.hits, counts.predicted, counts.truth)
        )
        return cls(
            resamples.ratio(hits, predicted, drawn.precision),
            resamples.ratio(hits, truth, drawn.recall),
            resamples.ratio(hits, (predicted + truth) / 2, drawn.f1),
        )


def once(pictures: int) -> Weights:
    """Return the weights [1, pictures] with which each picture counts once."""
    return np.ones((1, pictures), np.uint8)


def _share(part: Ints, whole: Ints) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return share
