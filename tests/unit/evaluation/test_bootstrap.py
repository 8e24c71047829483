"""Intervals cover the true value about as often as they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from prelabel.evaluation.average_precision import (
    SizeMatches,
    Weights,
    match_label,
    mean_over_labels,
)
from prelabel.evaluation.bootstrap import MIN_PICTURES, Estimate, Resamples
from prelabel.evaluation.counts import Counts, LabelCounter, OperatingPoint, once
from prelabel.evaluation.samples import Sample
from prelabel.types import Floats
from tests.support.evaluated import Errors, generated

SIMULATIONS, MANY = 100, 8_000
THRESHOLD = 0.4
KINDS = {
    "thirty pictures": (30, ("cat", "dog", "car"), Errors()),
}


def matched(samples: Sequence[Sample], labels: Sequence[str]) -> list[SizeMatches]:
    return [match_label(samples, label)["all"] for label in labels]


def precisions(matches: Sequence[SizeMatches], weights: Weights) -> Floats:
    return mean_over_labels([each.average_precision(weights) for each in matches])


def counts(matches: Sequence[SizeMatches], weights: Weights) -> Counts:
    first, *others = (LabelCounter(each).count(THRESHOLD, weights) for each in matches)
    for other in others:
        first += other
    return first


def estimates(matches: Sequence[SizeMatches], pictures: int) -> dict[str, Estimate]:
    resamples = Resamples.of(pictures, 200_000)  # fewer than usual, for the test's time
    boxes = sum(int(each.truth.sum()) for each in matches)
    own, drawn, halves = (
        precisions(matches, weights)
        for weights in (once(pictures), resamples.drawn, resamples.halves)
    )
    point = OperatingPoint.of(
        counts(matches, once(pictures)), counts(matches, resamples.drawn), resamples
    )
    return {
        "AP": resamples.average_precision(
            float(own.mean()), drawn.mean(axis=1), halves.mean(axis=1), boxes
        ),
        "AP50": resamples.average_precision(float(own[0, 0]), drawn[:, 0], halves[:, 0], boxes),
        "precision": point.precision,
        "recall": point.recall,
        "F1": point.f1,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_they_cover_the_true_value_in_most_of_a_hundred_projects(kind: str) -> None:
    pictures, labels, errors = KINDS[kind]
    many = matched(generated(MANY, labels, 99, errors), labels)
    ap, point = precisions(many, once(MANY)), counts(many, once(MANY))
    true = {
        "AP": ap.mean(),
        "AP50": ap[0, 0],
        "precision": point.precision[0],
        "recall": point.recall[0],
        "F1": point.f1[0],
    }
    covered = dict.fromkeys(true, 0)
    for seed in range(SIMULATIONS):
        matches = matched(generated(pictures, labels, 1_000 + seed, errors), labels)
        for name, estimate in estimates(matches, pictures).items():
            assert estimate.low is not None
            assert estimate.high is not None
            covered[name] += estimate.low <= true[name] <= estimate.high
    assert all(90 <= count <= 99 for count in covered.values()), covered


def test_few_pictures_have_no_interval() -> None:
    few = MIN_PICTURES - 1
    found = estimates(matched(generated(few, ["cat"], 1), ["cat"]), few)
    assert all(estimate.low is None for estimate in found.values())
    assert found["AP"].value is not None


def test_a_ratio_of_one_is_not_certain() -> None:
    resamples = Resamples.of(20, 20)
    ones = np.ones(len(resamples.drawn))
    three = resamples.ratio(3, 3, ones)
    assert three.low == pytest.approx(0.4, abs=0.03)
    assert three.high == 1.0
    assert resamples.ratio(0, 0, ones) == Estimate(None)
    perfect = resamples.average_precision(1.0, ones, np.ones(len(resamples.halves)), 20)
    assert perfect.low is not None
    assert 0.8 < perfect.low < 0.9
    assert perfect.half_width == pytest.approx((1 - perfect.low) / 2)


def test_the_same_pictures_give_the_same_intervals() -> None:
    first, second = (Resamples.of(50, 100) for _ in range(2))
    assert np.array_equal(first.drawn, second.drawn)
    assert (first.drawn.sum(axis=1) == 50).all()
    assert (first.halves.sum(axis=1) == 25).all()
    assert len(Resamples.of(50, 10**9).drawn) == 200
