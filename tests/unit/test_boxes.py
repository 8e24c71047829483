from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from prelabel.boxes import (
    area_xyxy,
    clip_xyxy,
    cxcywh_to_xyxy,
    iou_xyxy,
    nms,
    norm_to_px,
    px_to_pct,
)

EMPTY = np.zeros((0, 4), dtype=np.float32)


@pytest.mark.parametrize(
    ("cxcywh", "xyxy"),
    [
        (EMPTY, EMPTY),
        ([[0.5, 0.5, 1, 1]], [[0, 0, 1, 1]]),
        ([[10, 20, 4, 6], [0, 0, 0, 0]], [[8, 17, 12, 23], [0, 0, 0, 0]]),
    ],
)
def test_centre_and_size_become_corners(
    cxcywh: NDArray[Any] | list[Any], xyxy: NDArray[Any] | list[list[int]]
) -> None:
    np.testing.assert_allclose(cxcywh_to_xyxy(np.array(cxcywh, dtype=np.float32)), xyxy)


def test_normalised_to_pixels_to_percent_keeps_the_box() -> None:
    norm = np.array([[0.1, 0.2, 0.5, 1.0]])
    np.testing.assert_allclose(px_to_pct(norm_to_px(norm, (640, 480)), (640, 480)), norm * 100)


def test_width_scales_x_and_height_scales_y() -> None:
    np.testing.assert_allclose(norm_to_px(np.array([[1, 1, 1, 1.0]]), (640, 480)), [[640, 480] * 2])


def test_boxes_are_cut_at_all_four_edges() -> None:
    boxes = np.array([[-5, -6, 700, 500.0]])
    np.testing.assert_allclose(clip_xyxy(boxes, (640, 480)), [[0, 0, 640, 480]])


def test_a_turned_over_box_has_no_area() -> None:
    np.testing.assert_allclose(area_xyxy(np.array([[5, 5, 1, 9.0], [0, 0, 2, 3]])), [0, 6])


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1),
        ([0, 0, 2, 2], [2, 2, 4, 4], 0),
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0),
    ],
)
def test_iou(a: list[int], b: list[int], iou: float) -> None:
    found = iou_xyxy(np.array([a], dtype=float), np.array([b], dtype=float))
    np.testing.assert_allclose(found, [[iou]])


def test_iou_of_no_boxes_has_their_shape() -> None:
    assert iou_xyxy(EMPTY, np.zeros((3, 4))).shape == (0, 3)


def test_nms_of_nothing_is_nothing() -> None:
    assert nms(EMPTY, np.zeros(0), np.zeros(0, dtype=np.int64), 0.5, 9).tolist() == []


def test_nms_keeps_the_better_of_two_and_orders_by_score() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 10, 10]], dtype=float)
    kept = nms(boxes, np.array([0.5, 0.7, 0.9]), np.zeros(3, dtype=np.int64), 0.5, 9)
    assert kept.tolist() == [2, 1]


def test_nms_spares_boxes_of_other_groups() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 2, dtype=float)
    assert len(nms(boxes, np.array([0.5, 0.7]), np.array([0, 1]), 0.5, 9)) == 2


def test_a_suppressed_box_suppresses_no_other_box() -> None:
    # a chain: b overlaps a, c overlaps b but not a
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], dtype=float)
    kept = nms(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3, dtype=np.int64), 0.3, 9)
    assert kept.tolist() == [0, 2]


@pytest.mark.parametrize("limit", [7, 64, 65, 1000])
def test_nms_of_many_is_that_of_one_after_the_other(limit: int) -> None:
    random = np.random.default_rng(5)
    corners = random.uniform(0, 300, (400, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 100, (400, 2))], axis=1)
    scores, groups = random.permutation(400) / 400, random.integers(0, 2, 400)
    kept: list[int] = []
    for i in np.argsort(-scores).tolist():
        better = [j for j in kept if groups[j] == groups[i]]
        if not (iou_xyxy(boxes[[i]], boxes[better]) > 0.4).any():
            kept.append(i)
    assert 65 < len(kept) < 390
    assert nms(boxes, scores, groups, 0.4, limit).tolist() == kept[:limit]


def test_nms_stops_at_its_limit_with_the_best() -> None:
    boxes = np.arange(80, dtype=float).reshape(20, 4)
    kept = nms(boxes, np.linspace(0, 1, 20), np.arange(20), 0.5, 3)
    assert kept.tolist() == [19, 18, 17]
