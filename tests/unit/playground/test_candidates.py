"""The page's boxes are those of POST /predict, for all thresholds over the floor."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from prelabel.detection.detector import MAX_MERGED_BOXES
from prelabel.detection.scoring import select_detections
from prelabel.detection.suppression import Suppression, chosen_rows
from prelabel.detection.tiling import Tile, Tiling, merge_views, stack_views
from prelabel.labelstudio.config_text import ConfigLabel
from prelabel.playground.candidates import (
    FLOOR,
    MAX_CANDIDATES,
    candidates_answer,
    shortest_decimals,
)
from prelabel.types import Detections, LookPlan, RawDetections, Target, TaskPlan, Thresholds
from tests.support.playground_rule import Sliders, chosen_by_page

LABELS = ("cat", "cat", None, "dog", "unlabelled")
TARGETS = tuple(
    None
    if label is None
    else Target("label", "image", None if label == "unlabelled" else label, FLOOR.box)
    for label in LABELS
)
PHRASES = ("kitten", "tabby", "fox", "dog", "thing")
SECONDS = {"total": 1.0, "model": 0.5}


def raw(rng: np.random.Generator, queries: int, first: int, phrases: int) -> RawDetections:
    """Boxes in clusters, so that many overlap, and scores with ties."""
    centres = rng.uniform(0, 1, (max(1, queries // 6), 2))
    centre = centres[rng.integers(len(centres), size=queries)] + rng.normal(0, 0.02, (queries, 2))
    size = rng.uniform(0.001, 0.4, (queries, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    mean = rng.beta(0.5, 3, (queries, phrases)).astype(np.float32).round(3)
    more = rng.uniform(0, 0.3, mean.shape) * (rng.uniform(size=mean.shape) < 0.5)
    return RawDetections(boxes, (mean + more).astype(np.float32).clip(0, 1), mean, first)


def detect(
    views: list[tuple[Tile, list[RawDetections]]], thresholds: Thresholds, *, candidates: bool
) -> Detections:
    """Return the detections as `PictureDetector` makes them from the results of the model."""
    merge = stack_views if candidates else merge_views
    found = [(view, select_detections(raws, thresholds, view.wh)) for view, raws in views]
    return merge(found, MAX_MERGED_BOXES)


def look(thresholds: Thresholds) -> LookPlan:
    targets = tuple(t and replace(t, min_score=thresholds.box) for t in TARGETS)
    return LookPlan("", None, PHRASES, targets, thresholds)


def answer_of(detections: Detections) -> dict[str, Any]:
    plan = TaskPlan((look(FLOOR),))
    labels = [ConfigLabel("cat"), ConfigLabel("dog")]
    answer = candidates_answer(plan, labels, detections, "demo-0", SECONDS)  # type: ignore[arg-type]
    decoded: dict[str, Any] = json.loads(json.dumps(answer))
    return decoded


@pytest.mark.parametrize("image_wh", [(640, 480), (1000, 1500)])
@pytest.mark.parametrize("tile_size", [0, 400])
@pytest.mark.parametrize("seed", range(6))
def test_thresholds_and_suppression_of_the_candidates_are_those_of_a_prediction(
    image_wh: tuple[int, int], tile_size: int, seed: int
) -> None:
    rng = np.random.default_rng([seed, tile_size, *image_wh])
    tiles = Tiling(tile_size, 0.25, 64).views(image_wh)
    queries = 120 if len(tiles) == 1 else 30
    views = [(tile, [raw(rng, queries, 0, 3), raw(rng, queries // 2, 3, 2)]) for tile in tiles]
    answer = answer_of(detect(views, FLOOR, candidates=True))
    assert (answer["view_index"] is not None) == (len(tiles) > 1)
    assert answer["floor"] == FLOOR.box
    shown = 0
    for _ in range(12):
        # Scores themselves are thresholds, too: the comparison is inclusive.
        near = float(rng.choice(answer["scores"]))
        sliders = Sliders(
            box=float(rng.choice([FLOOR.box, 0.3, near, rng.uniform(FLOOR.box, 0.8)])),
            text=float(rng.choice([0, 0.25, rng.uniform(0, 0.5), rng.choice(answer["scores"])])),
            nms_iou=float(rng.choice([0.0, 0.3, 0.7, 1.0])),
            class_agnostic=bool(rng.integers(2)),
            max_boxes=int(rng.choice([5, 300])),
            min_box_px=float(rng.choice([0, 1, 20])),
        )
        thresholds = Thresholds(sliders.box, sliders.text)
        predicted = detect(views, thresholds, candidates=False)
        limits = Suppression(
            sliders.nms_iou, sliders.class_agnostic, sliders.max_boxes, sliders.min_box_px
        )
        kept = predicted.take(chosen_rows(look(thresholds), predicted, limits))
        rows = chosen_by_page(answer, sliders)
        assert np.array_equal(
            np.array([answer["boxes_xyxy"][row] for row in rows], np.float32).reshape(-1, 4),
            kept.boxes_xyxy,
        )
        assert [answer["phrase_index"][row] for row in rows] == kept.phrase_index.tolist()
        assert np.array_equal(
            np.array([answer["scores"][r] for r in rows], np.float32), kept.scores
        )
        shown += len(rows)
    assert shown > 50


def test_the_best_boxes_are_sent_and_the_floor_says_which_are_missing() -> None:
    rng = np.random.default_rng(0)
    whole = Tile(0, 0, 640, 480)
    found = detect([(whole, [raw(rng, 3_000, 0, 5)])], FLOOR, candidates=True)
    assert len(found.scores) > MAX_CANDIDATES
    answer = answer_of(found)
    assert 0 < len(answer["scores"]) <= MAX_CANDIDATES
    floor = np.float32(answer["floor"])
    assert np.sum(found.scores >= floor) == len(answer["scores"])
    [note] = answer["notes"]
    assert note.startswith(f"The page has the best {len(answer['scores'])} boxes.")
    assert len(json.dumps(answer)) < 120_000


def test_boxes_with_equal_scores_are_sent_together_or_not_at_all() -> None:
    count = MAX_CANDIDATES + 1
    scores = np.full(count, 0.25, np.float32)
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (count, 1))
    found = Detections(boxes, scores, np.zeros(count, np.int64), (9, 9), text_scores=scores)
    answer = answer_of(found)
    assert answer["scores"] == []
    assert np.float32(answer["floor"]) > np.float32(0.25)


def test_no_box_at_all() -> None:
    nothing = np.zeros(0, np.float32)
    found = Detections(
        np.zeros((0, 4), np.float32), nothing, np.zeros(0, np.int64), (9, 9), text_scores=nothing
    )
    answer = answer_of(found)
    assert (answer["boxes_xyxy"], answer["scores"]) == ([], [])
    assert chosen_by_page(answer, Sliders(0.3, 0.25)) == []


def test_decimals_are_short_and_mean_the_same_float32() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [rng.uniform(0, 1, 5_000), rng.uniform(0, 5_000, 5_000), [0, 1, 1e-7, 639.99997]]
    ).astype(np.float32)
    decimals = shortest_decimals(values)
    assert np.array_equal(np.array(decimals, np.float32), values)
    assert max(len(repr(decimal)) for decimal in decimals) <= 14
