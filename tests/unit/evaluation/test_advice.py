"""Thresholds are proposed where they also help on pictures that they were not chosen on."""

from __future__ import annotations

import pytest

from prelabel.evaluation.advice import MIN_BOXES, Advice, Wish, advise, is_held_out
from prelabel.evaluation.average_precision import match_label
from prelabel.evaluation.findings import advice_row, advice_sentence
from prelabel.evaluation.report import report_on
from prelabel.evaluation.samples import Sample
from tests.support.evaluated import generated

LABELS = ("cat", "dog", "car")


def advice(samples: list[Sample], threshold: float, wish: Wish, lowest: float = 0.05) -> Advice:
    matches = {label: match_label(samples, label)["all"] for label in LABELS}
    return advise(samples, matches, dict.fromkeys(LABELS, threshold), wish, lowest=lowest)


def test_a_wrong_default_is_found() -> None:
    found = advice(generated(300, LABELS, 1), 0.75, Wish())
    assert set(found.proposals) == set(LABELS)
    assert all(0.25 < threshold < 0.55 for threshold in found.proposals.values())
    assert found.before is not None
    assert found.after is not None
    assert found.after > found.before + 0.1
    assert found.gain.low is not None
    assert found.gain.low > 0.05
    assert found.chosen_on + found.checked_on == 300
    assert "the F1 of all boxes goes from" in advice_sentence(found)
    assert advice_row(found.labels[0])[1] == f"{found.labels[0].proposed:.2f}"


@pytest.mark.parametrize("seed", range(8))
def test_the_other_half_is_never_worse(seed: int) -> None:
    for threshold in (0.3, 0.4, 0.5):
        found = advice(generated(120, LABELS, seed), threshold, Wish())
        assert found.before is not None
        assert found.after is not None
        assert found.after >= found.before
        for each in found.labels:
            assert each.after is not None
            assert each.before is not None
            assert each.after >= each.before
            assert (each.proposed is None) == bool(each.reason)


def test_a_wanted_precision_or_recall() -> None:
    samples = generated(400, LABELS, 2)
    found = advice(samples, 0.2, Wish("precision", 0.9))
    assert found.proposals
    for each in found.labels:
        if each.proposed is not None:
            before, after = each.precision
            assert before is not None
            assert after is not None
            assert before < after
            assert after > 0.82
    kept = advice(samples, 0.7, Wish("recall", 0.7))
    for each in kept.labels:
        assert each.proposed is not None
        assert each.proposed < 0.7
    impossible = advice(samples, 0.3, Wish("recall", 0.99))
    assert not impossible.proposals
    assert {each.reason for each in impossible.labels} == {"No threshold reaches a recall of 0.99."}


def test_few_boxes_get_no_advice() -> None:
    found = advice(generated(6, LABELS, 3), 0.9, Wish())
    assert not found.proposals
    assert all(f"at least {MIN_BOXES}" in each.reason for each in found.labels)
    assert "No threshold is proposed" in advice_sentence(found)
    assert advice_row(found.labels[0])[1:] == ("keep", found.labels[0].reason)


def test_a_good_threshold_is_kept() -> None:
    samples = generated(300, LABELS, 1)
    proposals = advice(samples, 0.75, Wish()).proposals
    report = report_on(samples, thresholds=proposals, wish=Wish(), lowest=0.05)
    assert report.advice is not None
    assert not report.advice.proposals


def test_stored_predictions_cannot_lower_a_threshold() -> None:
    samples = [each.over(dict.fromkeys(LABELS, 0.6)) for each in generated(300, LABELS, 1)]
    assert not advice(samples, 0.6, Wish(), lowest=0.0).proposals


def test_half_of_the_tasks_are_held_out_and_always_the_same() -> None:
    assert 450 < sum(is_held_out(task) for task in range(1000)) < 550
    assert [is_held_out(task) for task in range(6)] == [True, True, False, False, True, True]
