"""A report finds what was planted, and says what it means."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from prelabel.evaluation.agreement import agreement_of
from prelabel.evaluation.bootstrap import Estimate
from prelabel.evaluation.corrections import corrections_in
from prelabel.evaluation.findings import findings, short, with_interval
from prelabel.evaluation.matching import match_picture
from prelabel.evaluation.report import report_on
from prelabel.evaluation.samples import Boxes, Sample, labels_in
from prelabel.evaluation.summary import summary_of
from tests.support.evaluated import Errors, generated

WH = (640, 480)
CAT, DOG, FAR = (10, 10, 110, 110), (200, 200, 300, 300), (400, 10, 500, 110)
NOTHING = Boxes.of([], [])


def sample(truth: Boxes, predicted: Boxes, task: int = 1, corrected: Boxes | None = None) -> Sample:
    return Sample(task, None, "a.png", WH, truth, predicted, corrected)


def test_a_wrong_label_is_told_from_a_wrong_box() -> None:
    truth = Boxes.of([CAT, DOG, FAR], ["cat", "dog", "car"])
    predicted = Boxes.of([CAT, DOG, (10, 300, 50, 350)], ["cat", "cat", "car"], [0.9, 0.8, 0.7])
    matches = match_picture(predicted, truth)
    assert matches.found == ((0, 0),)
    assert matches.mislabelled == ((1, 1),)
    assert (matches.false, matches.missed) == ((2,), (2,))
    report = report_on([sample(truth, predicted)], labels=["dog", "cat"])
    assert [each.label for each in report.labels] == ["dog", "cat", "car"]
    assert report.confusion.tolist() == [
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
    ]


def test_the_right_label_is_matched_before_a_better_box_of_another() -> None:
    truth = Boxes.of([CAT, (15, 15, 115, 115)], ["person", "helmet"])
    predicted = Boxes.of([(15, 15, 115, 115), CAT], ["person", "helmet"], [0.9, 0.8])
    assert match_picture(predicted, truth).found == ((0, 0), (1, 1))


def test_boxes_under_their_threshold_count_in_curves_only() -> None:
    truth = Boxes.of([CAT, DOG], ["cat", "dog"])
    predicted = Boxes.of([CAT, DOG, FAR], ["cat", "dog", "dog"], [0.4, 0.6, 0.2])
    report = report_on([sample(truth, predicted)], thresholds={"cat": 0.5, "dog": 0.3})
    cat, dog = report.labels
    assert (cat.predicted, dog.predicted, report.predicted) == (0, 1, 1)
    assert (cat.point.recall.value, dog.point.recall.value) == (0, 1)
    assert cat.point.precision.value is None
    assert cat.curve.thresholds.tolist() == [0.4]
    assert dog.curve.precision.tolist() == [1, 0.5]
    assert dog.curve.f1.tolist() == [1, pytest.approx(2 / 3)]


def test_worst_are_the_pictures_with_most_wrong_boxes() -> None:
    truth = Boxes.of([CAT, DOG], ["cat", "dog"])
    sure = Boxes.of([FAR, CAT, DOG], ["cat", "cat", "dog"], [0.9, 0.9, 0.9])
    unsure = Boxes.of([FAR, CAT, DOG], ["cat", "cat", "dog"], [0.3, 0.9, 0.9])
    report = report_on(
        [
            sample(truth, unsure, 1),
            sample(truth, sure, 2),
            sample(truth, NOTHING, 3),
            sample(truth, truth, 4),
        ]
    )
    assert [each.sample.task for each in report.worst] == [3, 2, 1]
    many = report_on([sample(truth, NOTHING, task) for task in range(30)])
    assert len(many.worst) == 20


@pytest.mark.parametrize("by_id", [True, False])
def test_corrections_are_told_by_id_and_by_place(by_id: bool) -> None:
    before = Boxes.of(
        [CAT, DOG, FAR, (10, 300, 60, 350), (300, 350, 400, 450)],
        ["cat", "dog", "cat", "cat", "dog"],
        ids=["a", "b", "c", "d", "e"] if by_id else None,
    )
    moved = tuple(edge + 15 for edge in DOG)
    after = Boxes.of(
        [CAT, moved, FAR, (10, 300, 60, 350), (550, 400, 600, 450)],
        ["cat", "dog", "dog", "cat", "cat"],
        ids=["a", "b", "c", "d", "z"] if by_id else None,
    )
    fixed = corrections_in(sample(after, NOTHING, corrected=before))
    assert (fixed.kept, fixed.moved, fixed.relabelled) == (2, 1, 1)
    assert (fixed.deleted, fixed.added, fixed.changes, fixed.pictures) == (1, 1, 4, 1)


def test_a_box_with_the_same_id_was_moved_however_far() -> None:
    before = Boxes.of([CAT], ["cat"], ids=["a"])
    fixed = corrections_in(sample(Boxes.of([FAR], ["cat"], ids=["a"]), before))
    assert (fixed.moved, fixed.changes, fixed.pictures) == (1, 1, 0)


def test_people_agree_as_their_boxes_do() -> None:
    cat, both = Boxes.of([CAT], ["cat"]), Boxes.of([CAT, DOG], ["cat", "dog"])
    assert agreement_of([[cat], [NOTHING]]) is None
    agreement = agreement_of([[cat, both], [NOTHING, NOTHING], [cat]])
    assert agreement is not None
    assert agreement.pictures == 2
    assert agreement.f1 == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        (5, "Too few pictures (5) to tell"),
        (30, "30 pictures say little: with 95 % confidence, AP is anywhere between"),
        (600, "600 pictures are enough"),
    ],
)
def test_few_pictures_say_that_they_say_little(pictures: int, sentence: str) -> None:
    report = report_on(generated(pictures, ("cat", "dog"), 3))
    found = " ".join(findings(report))
    assert sentence in found
    assert ("fewer than 30 boxes" in found) == (pictures == 5)
    json.dumps(summary_of(report), allow_nan=False)


def test_nothing_is_predicted_and_nothing_is_there() -> None:
    empty = [sample(NOTHING, NOTHING, task) for task in range(20)]
    report = report_on(empty)
    assert (report.negatives, report.ap.value, report.point.f1.value) == (20, None, None)
    assert "not defined" in " ".join(findings(report))
    json.dumps(summary_of(report), allow_nan=False)
    truth = Boxes.of([CAT], ["cat"])
    report = report_on([sample(truth, NOTHING, task) for task in range(20)])
    assert (report.ap.value, report.point.precision.value, report.point.recall.value) == (
        0,
        None,
        0,
    )


def test_labels_keep_the_order_of_the_project() -> None:
    samples = [sample(Boxes.of([CAT, DOG], ["b", ""]), Boxes.of([FAR], ["a"]))]
    assert labels_in(samples, ["c", "b"]) == ("b", "a")


def test_boxes_without_a_label_are_no_class() -> None:
    truth = Boxes.of([CAT], ["cat"])
    report = report_on([sample(truth, Boxes.of([CAT], [""], [0.9]))])
    assert [each.label for each in report.labels] == ["cat"]
    assert report.corrections.relabelled == 1
    assert report.worst[0].matches.mislabelled == ((0, 0),)


def test_planted_errors_have_their_numbers() -> None:
    perfect = Errors(missed=0, mislabelled=0, false=0, shift=0)
    samples = generated(200, ("cat", "dog", "car"), 8, perfect)
    assert report_on(samples).ap.value == pytest.approx(1)
    moved, swapped, planted = 0, 0, []
    number = 0
    for each in samples:
        xyxy, labels = each.predicted.xyxy.copy(), list(each.predicted.labels)
        for row in range(len(labels)):
            number += 1
            if number % 10 == 0:
                xyxy[row] += np.array([0.6, 0, 0.6, 0]) * (xyxy[row][2] - xyxy[row][0])
                moved += 1
            elif number % 37 == 0:
                labels[row] = "car" if labels[row] == "dog" else "dog"
                swapped += 1
        predicted = replace(each.predicted, xyxy=xyxy, labels=tuple(labels))
        planted.append(replace(each, predicted=predicted))
    report = report_on(planted)
    background = len(report.labels)
    mislabelled = report.confusion[:background, :background].sum() - np.trace(report.confusion)
    assert abs(mislabelled - swapped) <= 2
    assert abs(report.confusion[background].sum() - moved) <= 2


def test_texts_are_short() -> None:
    assert short("abc", 3) == "abc"
    assert short("abcd", 3) == "ab…"
    assert with_interval(Estimate(None)) == "-"
    assert with_interval(Estimate(0.5)) == "0.500"
    assert with_interval(Estimate(0.5, 0.25, 1.0)) == "0.500 (0.25-1.00)"
