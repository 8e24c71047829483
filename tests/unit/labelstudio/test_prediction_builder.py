"""The prediction of a task: its score, and the hashes of its pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prelabel.detection.suppression import Suppression
from prelabel.labelstudio.prediction_builder import PredictionBuilder
from prelabel.settings import MaskSettings
from prelabel.types import Detections, LookPlan, ReviewEvidence, Target, TaskPlan, Thresholds

LOOK = LookPlan("", None, ("cat",), (Target("label", "image", "cat", 0.0),), Thresholds(0.3, 0.25))
BUILDER = PredictionBuilder(Suppression(0.7, False, 100), MaskSettings(), "v1")


def detections(*scores: float) -> Detections:
    lefts = 50.0 * np.arange(len(scores))
    boxes = np.stack([lefts, 0 * lefts, lefts + 40, 0 * lefts + 40], axis=1).astype(np.float32)
    return Detections(
        boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64), (500, 100)
    )


def with_evidence(*scores: float) -> Detections:
    return replace(
        detections(*(score for score in scores if score >= 0.3)),
        evidence=ReviewEvidence(detections(*scores)),
    )


def score(*pictures: Detections) -> float:
    return BUILDER.build(TaskPlan((LOOK,) * len(pictures)), pictures)["score"]


def test_without_evidence_the_score_is_the_mean_of_the_boxes() -> None:
    assert score(detections(0.9, 0.5)) == pytest.approx(0.7)
    assert score(detections()) == 0


def test_with_evidence_the_score_falls_with_the_expected_corrections() -> None:
    assert score(with_evidence()) == 1  # nothing was seen, not even faintly
    assert score(with_evidence(0.3)) == pytest.approx(1 / 1.5)
    assert score(with_evidence(0.3, 0.3)) == pytest.approx(1 / 2)
    assert score(with_evidence(0.9)) > score(with_evidence(0.5)) > score(with_evidence(0.5, 0.29))


def test_the_pictures_of_a_task_add_up() -> None:
    assert score(with_evidence(0.3), with_evidence(0.3)) == pytest.approx(1 / 2)


def test_each_bulk_picture_has_its_hash() -> None:
    pictures = [replace(detections(0.9), picture_hash=value) for value in (2**64 - 1, 0)]
    prediction = BUILDER.build(TaskPlan((LOOK, LOOK)), pictures)
    assert prediction["picture_hashes"] == ["f" * 16, "0" * 16]
    assert "picture_hashes" not in BUILDER.build(TaskPlan((LOOK,)), [detections(0.9)])
