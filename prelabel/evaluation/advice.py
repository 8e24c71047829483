"""Thresholds from data: chosen on one half of the pictures, checked on the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from prelabel.evaluation.average_precision import SizeMatches, Weights
from prelabel.evaluation.bootstrap import Estimate, Resamples
from prelabel.evaluation.counts import Counts, LabelCounter
from prelabel.evaluation.samples import Sample
from prelabel.types import Floats, Ints

MIN_BOXES: Final = 30  # boxes of people, of a label that gets a proposal
STEP: Final = 0.01  # between the thresholds that are tried
_PLATEAU: Final = 0.002  # thresholds whose F1 is that near to the best one are as good

Goal = Literal["f1", "precision", "recall"]


@dataclass(frozen=True, slots=True)
class Wish:
    """The goal for which a threshold is chosen.

    Attributes:
        goal: The best F1, a precision, or a recall.
        least: The precision or recall that is wanted.
    """

    goal: Goal = "f1"
    least: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelAdvice:
    """The advice for one label. Measures are those of the half that was not used to choose.

    Attributes:
        label: The label.
        current: The threshold that applies now.
        proposed: The threshold to set; None to keep the current one.
        reason: Why it is kept; empty for a proposal.
        before: F1 at the current threshold.
        after: F1 at the proposed threshold; as before where it is kept.
        gain: Difference of both, with its interval.
        precision: Precision before and after.
        recall: Recall before and after.
    """

    label: str
    current: float
    proposed: float | None
    reason: str
    before: float | None
    after: float | None
    gain: Estimate
    precision: tuple[float | None, float | None]
    recall: tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Advice:
    """Proposed thresholds.

    Attributes:
        wish: The goal that they are chosen for.
        labels: The advice for each label.
        chosen_on: Number of pictures that the thresholds were chosen on.
        checked_on: Number of the other pictures.
        before: F1 of all boxes of the other pictures, at the current thresholds.
        after: The same at the proposed thresholds.
        gain: Difference of both, with its interval.
    """

    wish: Wish
    labels: tuple[LabelAdvice, ...]
    chosen_on: int
    checked_on: int
    before: float | None
    after: float | None
    gain: Estimate

    @property
    def proposals(self) -> dict[str, float]:
        """The thresholds to set, by label."""
        return {each.label: each.proposed for each in self.labels if each.proposed is not None}


def is_held_out(task: int) -> bool:
    """Return True for the tasks that thresholds are checked on: about half, always the same."""
    return hashlib.sha256(str(task).encode()).digest()[0] % 2 == 1


def advise(
    samples: Sequence[Sample],
    matches: Mapping[str, SizeMatches],
    current: Mapping[str, float],
    wish: Wish,
    *,
    lowest: float,
) -> Advice:
    """Propose thresholds.

    A threshold is proposed if it also serves the wish better on the half of the pictures that it
    was not chosen on, without making the F1 of all boxes there worse if F1 is the goal.

    Args:
        samples: The pictures, with predicted boxes down to the threshold `lowest`.
        matches: The matches of each label, for boxes of all sizes.
        current: The threshold of each label now.
        wish: The goal.
        lowest: Least threshold that can be proposed.
    """
    held_out = np.array([is_held_out(sample.task) for sample in samples], dtype=bool)
    halves = (~held_out).astype(np.uint8)[None], held_out.astype(np.uint8)[None]
    chooser = _Chooser(wish, *halves, lowest)
    tried = {
        label: chooser.choose(LabelCounter(found), current[label])
        for label, found in matches.items()
    }
    thresholds = _accepted(tried, matches, current, wish, halves[1])
    resamples = Resamples.of(int(held_out.sum()), sum(len(s.predicted) for s in samples))
    drawn = np.zeros((len(resamples.drawn), len(samples)), np.uint8)
    drawn[:, held_out] = resamples.drawn
    measure = _HeldOut(matches, current, resamples, halves[1], drawn)
    labels = tuple(measure.label(each, thresholds.get(each), tried[each]) for each in matches)
    before, after, gain = measure.all_labels(thresholds)
    return Advice(wish, labels, int((~held_out).sum()), int(held_out.sum()), before, after, gain)


@dataclass(frozen=True, slots=True)
class _Tried:
    """A threshold that is better on both halves, or the reason why there is none."""

    threshold: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Chooser:
    """Chooses the threshold of one label."""

    wish: Wish
    chosen_on: Weights
    checked_on: Weights
    lowest: float

    def choose(self, counter: LabelCounter, current: float) -> _Tried:
        truth = int(counter.matches.truth.sum())
        if truth < MIN_BOXES:
            return _Tried(
                None, f"There are {truth} boxes of people; advice needs at least {MIN_BOXES}."
            )
        grid = _grid(self.lowest)
        counts = counter.count_all(grid.tolist(), self.chosen_on)
        place = self._place(counts)
        if place is None:
            return _Tried(None, f"No threshold reaches a {self.wish.goal} of {self.wish.least:g}.")
        threshold = round(float(grid[place]), 2)
        both = [current, threshold]
        if not self._is_better(*counter.count_all(both, self.chosen_on)):
            return _Tried(None, "The threshold is the best already.")
        if not self._is_better(*counter.count_all(both, self.checked_on)):
            return _Tried(
                None, f"{threshold:g} is better on one half of the pictures, but not on the other."
            )
        return _Tried(threshold)

    def _place(self, counts: Sequence[Counts]) -> int | None:
        if self.wish.goal == "f1":
            return _middle_of_best(_of(counts, "f1"))
        if self.wish.goal == "precision":
            reached = np.flatnonzero(_of(counts, "precision") >= self.wish.least)
            return int(reached[0]) if len(reached) else None
        reached = np.flatnonzero(_of(counts, "recall") >= self.wish.least)
        return int(reached[-1]) if len(reached) else None

    def _is_better(self, before: Counts, after: Counts) -> bool:
        if self.wish.goal == "f1":
            return _number(after.f1) > _number(before.f1)
        wanted, other = ("precision", "recall")
        if self.wish.goal == "recall":
            wanted, other = other, wanted
        had, has = (_number(getattr(counts, wanted)) for counts in (before, after))
        if had < self.wish.least:
            return has > had
        return has >= self.wish.least and _number(getattr(after, other)) > _number(
            getattr(before, other)
        )


def _accepted(
    tried: Mapping[str, _Tried],
    matches: Mapping[str, SizeMatches],
    current: Mapping[str, float],
    wish: Wish,
    checked_on: Weights,
) -> dict[str, float]:
    """Return the proposals; for F1, those with which the F1 of all boxes does not fall."""
    proposals = {
        label: each.threshold for label, each in tried.items() if each.threshold is not None
    }
    if wish.goal != "f1":
        return proposals
    accepted: dict[str, float] = {}
    best = _number(_all(matches, dict(current), checked_on).f1)
    for label, threshold in proposals.items():
        f1 = _number(_all(matches, {**current, **accepted, label: threshold}, checked_on).f1)
        if f1 >= best:
            accepted[label], best = threshold, f1
    return accepted


@dataclass(frozen=True, slots=True, eq=False)
class _HeldOut:
    """Measures proposals on the half of the pictures that they were not chosen on."""

    matches: Mapping[str, SizeMatches]
    current: Mapping[str, float]
    resamples: Resamples
    once: Weights
    drawn: Weights

    def label(self, label: str, proposed: float | None, tried: _Tried) -> LabelAdvice:
        counter = LabelCounter(self.matches[label])
        current = self.current[label]
        thresholds = [current, current if proposed is None else proposed]
        before, after = counter.count_all(thresholds, self.once)
        drawn = counter.count_all(thresholds, self.drawn)
        rejected = "The F1 of all boxes on the other half of the pictures would fall."
        return LabelAdvice(
            label=label,
            current=current,
            proposed=proposed,
            reason="" if proposed is not None else tried.reason or rejected,
            before=_or_none(before.f1),
            after=_or_none(after.f1),
            gain=self._gain(before, after, *drawn),
            precision=(_or_none(before.precision), _or_none(after.precision)),
            recall=(_or_none(before.recall), _or_none(after.recall)),
        )

    def all_labels(
        self, thresholds: Mapping[str, float]
    ) -> tuple[float | None, float | None, Estimate]:
        """Return the F1 of all boxes before and after, and the difference."""
        both = dict(self.current), {**self.current, **thresholds}
        before, after = (_all(self.matches, each, self.once) for each in both)
        drawn = [_all(self.matches, each, self.drawn) for each in both]
        return _or_none(before.f1), _or_none(after.f1), self._gain(before, after, *drawn)

    def _gain(self, before: Counts, after: Counts, *drawn: Counts) -> Estimate:
        gain = float(after.f1[0] - before.f1[0])
        return self.resamples.difference(gain, drawn[1].f1 - drawn[0].f1)


def _all(
    matches: Mapping[str, SizeMatches], thresholds: Mapping[str, float], weights: Weights
) -> Counts:
    nothing: Ints = np.zeros(len(weights), np.int64)
    total = Counts(nothing, nothing, nothing)
    for label, found in matches.items():
        total += LabelCounter(found).count(thresholds[label], weights)
    return total


def _grid(lowest: float) -> Floats:
    first = int(np.ceil(lowest / STEP - 1e-9))
    grid: Floats = np.arange(first, int(1 / STEP)) * STEP
    return grid.round(2)


def _middle_of_best(f1: Floats) -> int:
    """Return the middle of the thresholds around the best one that are as good."""
    best = int(np.argmax(f1))
    is_good = f1 >= f1[best] - _PLATEAU
    low = high = best
    while low > 0 and is_good[low - 1]:
        low -= 1
    while high + 1 < len(f1) and is_good[high + 1]:
        high += 1
    return (low + high) // 2


def _of(counts: Sequence[Counts], measure: Goal) -> Floats:
    """Return a measure at each threshold; 0 where it is not defined."""
    return np.nan_to_num(np.array([getattr(each, measure)[0] for each in counts]))


def _number(values: Floats) -> float:
    return float(np.nan_to_num(values[0]))


def _or_none(values: Floats) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])
