"""The expected number of corrections: scores, rivals, missed objects and second looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from prelabel.detection.review import expected_corrections
from prelabel.detection.suppression import Suppression
from prelabel.types import Detections, LookPlan, ReviewEvidence, Target, Thresholds

SUPPRESSION = Suppression(iou_threshold=0.7, class_agnostic=False, max_boxes=100)
LEFT, MIDDLE, RIGHT = ([x, 10.0, x + 40, 60.0] for x in (0, 60, 120))
Row = tuple[list[float], float, int]  # box_xyxy, score, index of the phrase


def detections(rows: Sequence[Row]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([phrase for _, _, phrase in rows], np.int64),
        (200, 100),
    )


def corrections(
    rows: Sequence[Row],
    second_look: Sequence[Row] | None = None,
    *,
    min_scores: Sequence[float | None] = (0.0, 0.0),
) -> float:
    """Return the expected corrections at a box threshold of 0.3; None is a phrase without label."""
    targets = [
        None if least is None else Target("label", "image", name, least)
        for name, least in zip(("cat", "dog"), min_scores, strict=True)
    ]
    look = LookPlan("a.jpg", None, ("cat", "dog"), tuple(targets), Thresholds(0.3, 0.0))
    second = None if second_look is None else detections(second_look)
    evidence = ReviewEvidence(detections(rows), second)
    over = detections([row for row in rows if row[1] >= 0.3])
    found = Detections(
        over.boxes_xyxy, over.scores, over.phrase_index, over.image_wh, evidence=evidence
    )
    return expected_corrections(look, found, SUPPRESSION)


def test_without_boxes_nothing_is_to_be_corrected() -> None:
    assert corrections([]) == 0
    assert corrections([], []) == 0


def test_without_evidence_nothing_is_in_doubt() -> None:
    look = LookPlan("a.jpg", None, ("cat",), (Target("l", "i", "cat", 0.0),), Thresholds(0.3, 0))
    assert expected_corrections(look, detections([(LEFT, 0.31, 0)]), SUPPRESSION) == 0


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.3, 0.5),  # on the threshold: as likely right as wrong
        (0.5, 0.3),  # odds 1, those of the threshold 3/7
        (0.9, 1 / 22),
        (0.15, 0.7 * 0.15 / (0.7 * 0.15 + 0.3 * 0.85)),  # an object that may have been missed
        (1.0, 0.0),
    ],
)
def test_a_box_counts_by_the_odds_of_its_score(score: float, expected: float) -> None:
    assert corrections([(LEFT, score, 0)]) == pytest.approx(expected, abs=1e-5)


def test_boxes_add_up_and_a_copy_under_a_kept_box_does_not_count() -> None:
    rows = [(LEFT, 0.5, 0), (RIGHT, 0.5, 1)]
    assert corrections(rows) == pytest.approx(0.6)
    assert corrections([*rows, (LEFT, 0.2, 0)]) == pytest.approx(0.6)
    assert corrections([*rows, (MIDDLE, 0.299, 0)]) == pytest.approx(1.1, abs=0.01)


def test_an_object_that_two_faint_boxes_show_counts_once() -> None:
    shifted = [value + 2 for value in MIDDLE]
    once = corrections([(MIDDLE, 0.25, 0)])
    assert corrections([(MIDDLE, 0.25, 0), (shifted, 0.2, 1)]) == once


def test_a_rival_label_on_the_same_object_is_a_doubt() -> None:
    assert corrections([(LEFT, 0.9, 0), (LEFT, 0.29, 1)]) == pytest.approx(1 / 22, abs=1e-3)
    close = corrections([(LEFT, 0.9, 0), (LEFT, 0.88, 1)])
    assert close > 0.4


def test_the_threshold_of_a_label_counts() -> None:
    strict = corrections([(LEFT, 0.5, 0)], min_scores=(0.5, 0.0))
    assert strict == pytest.approx(0.5)
    under = corrections([(LEFT, 0.4, 0)], min_scores=(0.5, 0.0))  # dropped: it may be an object
    assert under == pytest.approx(0.4)


def test_phrases_without_a_label_are_not_missed() -> None:
    assert corrections([(LEFT, 0.8, 1), (RIGHT, 0.2, 1)], min_scores=(0.0, None)) == 0


def test_two_looks_that_agree_change_nothing_and_disagreement_is_a_doubt() -> None:
    rows = [(LEFT, 0.6, 0)]
    assert corrections(rows, rows) == pytest.approx(corrections(rows))
    assert corrections(rows, []) > 2 * corrections(rows)
    other_label = [(LEFT, 0.6, 1)]
    assert corrections(rows, other_label) > 2 * corrections(rows)
    elsewhere = [(LEFT, 0.6, 0), (RIGHT, 0.6, 0)]
    assert corrections(rows, elsewhere) == pytest.approx(corrections(rows) + 0.5)


def test_a_threshold_of_zero_leaves_numbers() -> None:
    look = LookPlan("a.jpg", None, ("cat",), (Target("l", "i", "cat", 0.0),), Thresholds(0, 0))
    rows = detections([(LEFT, 0.0, 0), (RIGHT, 0.4, 0)])
    found = Detections(
        rows.boxes_xyxy, rows.scores, rows.phrase_index, (200, 100), evidence=ReviewEvidence(rows)
    )
    assert 0 <= expected_corrections(look, found, SUPPRESSION) <= 1
