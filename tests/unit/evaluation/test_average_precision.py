"""Average precision equals pycocotools', also where pictures are there several times."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from prelabel.evaluation.average_precision import IOUS, SIZES, match_label, mean_over_labels
from prelabel.evaluation.matching import match_all
from prelabel.evaluation.samples import Boxes, Sample
from prelabel.types import Floats
from tests.support.evaluated import Errors, generated

LABELS = ("cat", "dog", "car", "bus", "person", "bicycle", "helmet")
PROJECTS = {
    "crowd of labels": generated(80, [f"label {i}" for i in range(40)], 1, most=12),
    "empty pictures": generated(120, LABELS, 2, empty=0.6),
    "duplicates": generated(60, LABELS[:3], 3, Errors(doubled=0.5, shift=0.1), decimals=1),
}


def coco_of(samples: Sequence[Sample], labels: Sequence[str], *, truth: bool) -> COCO:
    annotations: list[dict[str, Any]] = []
    for image, sample in enumerate(samples, 1):
        boxes = sample.truth if truth else sample.predicted
        for (x, y, right, bottom), label, score in zip(
            boxes.xyxy.tolist(), boxes.labels, boxes.scores.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": labels.index(label) + 1,
                    "bbox": [x, y, right - x, bottom - y],
                    "area": (right - x) * (bottom - y),
                    "iscrowd": 0,
                    "score": score,
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(1, len(samples) + 1)],
        "categories": [{"id": number} for number in range(1, len(labels) + 1)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def pycocotools(samples: Sequence[Sample], labels: Sequence[str]) -> Floats:
    """The precisions [10, 101, label, size] of pycocotools with its own parameters."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            coco_of(samples, labels, truth=True), coco_of(samples, labels, truth=False), "bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
    precision: Floats = evaluation.eval["precision"][..., -1]
    return precision


def ours(samples: Sequence[Sample], labels: Sequence[str], weights: Sequence[int]) -> Floats:
    """Average precisions [10, label, size]; -1 without boxes of people."""
    by_label = [match_label(samples, label) for label in labels]
    found = np.array(
        [
            [matches[size].average_precision(np.array([weights]))[0] for size in SIZES]
            for matches in by_label
        ]
    )
    return np.nan_to_num(found, nan=-1).transpose(2, 0, 1)


@pytest.mark.parametrize("name", PROJECTS)
def test_it_equals_pycocotools(name: str) -> None:
    samples = PROJECTS[name]
    labels = sorted({label for sample in samples for label in sample.truth.labels})
    samples = [
        replace(
            s,
            predicted=s.predicted.take(
                [i for i, x in enumerate(s.predicted.labels) if x in labels]
            ),
        )
        for s in samples
    ]
    reference = pycocotools(samples, labels)
    found = ours(samples, labels, [1] * len(samples))
    assert np.abs(found - reference.mean(axis=1)).max() < 1e-9
    for size in range(len(SIZES)):
        for ious in (slice(None), 0, 5):  # AP, AP50, AP75
            known = reference[ious, ..., size]
            mean = known[known > -1].mean()
            assert (known > -1).any()
            own = np.where(found < 0, np.nan, found)[ious, :, size]
            own = own if own.ndim == 2 else own[None]
            assert abs(mean_over_labels(list(own.T)).mean() - mean) < 1e-6


def test_a_weight_is_as_good_as_copies_of_the_picture() -> None:
    # Without equal scores, whose order copies would change.
    samples = generated(60, LABELS[:3], 5, Errors(doubled=0.5, shift=0.1), decimals=12)
    weights = np.random.default_rng(4).integers(0, 4, len(samples)).tolist()
    copies = [sample for sample, n in zip(samples, weights, strict=True) for _ in range(n)]
    labels = LABELS[:3]
    reference = pycocotools(copies, labels).mean(axis=1)
    assert np.abs(ours(samples, labels, weights) - reference).max() < 1e-9


def test_many_boxes_of_one_label_are_not_cut_at_a_hundred() -> None:
    xyxy = [[i * 20, 0, i * 20 + 10, 10] for i in range(150)]
    boxes = Boxes.of(xyxy, ["brick"] * 150)
    sample = Sample(1, None, "", (3000, 10), boxes, boxes)
    [precision] = match_label([sample], "brick")["all"].average_precision(np.ones((1, 1), int))
    assert precision.tolist() == [1.0] * len(IOUS)


def test_nothing_is_matched_without_boxes() -> None:
    empty = Sample(1, None, "", (0, 0), Boxes.of([], []), Boxes.of([], []))
    matches = match_label([empty], "cat")["all"]
    assert np.isnan(matches.average_precision(np.ones((2, 1), int))).all()
    assert np.isnan(mean_over_labels([np.full(3, np.nan)])).all()


@pytest.mark.parametrize("name", PROJECTS)
def test_the_matching_of_counts_is_that_of_ap50(name: str) -> None:
    samples = PROJECTS[name]
    labels = sorted({label for sample in samples for label in sample.truth.labels})
    hits = sum(int(match_label(samples, label)["all"].is_true[0].sum()) for label in labels)
    assert sum(len(matches.found) for matches in match_all(samples)) == hits
