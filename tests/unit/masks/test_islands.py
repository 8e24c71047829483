"""Cleaning against OpenCV's connected components."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prelabel.masks.islands import cleaned
from prelabel.masks.runs import NO_RUNS, mask_of_runs, runs_of_mask
from prelabel.types import Masks
from tests.support.masks import soft_noise


def by_opencv(mask: Masks, min_island_px: int, min_hole_px: int) -> Masks:
    result = mask.copy()
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=count)[1:]
    # Of equal islands the first one stays. OpenCV numbers them by blocks of 2 x 2 pixels.
    starts = [int((labels == label).argmax()) for label in range(1, count)]
    kept = min(range(1, count), key=lambda label: (-areas[label - 1], starts[label - 1]), default=0)
    for label, pixels in enumerate(areas, 1):
        if pixels < min_island_px and label != kept:
            result[labels == label] = False
    count, labels = cv2.connectedComponents((~result).astype(np.uint8), connectivity=4)
    outside = set(labels[[0, -1]].ravel()) | set(labels[:, [0, -1]].ravel())
    for label in range(1, count):
        if label not in outside and (labels == label).sum() < min_hole_px:
            result[labels == label] = True
    return result


def clean(mask: Masks, min_island_px: int, min_hole_px: int) -> Masks:
    height, width = mask.shape
    runs = runs_of_mask(mask, (0, 0), (width, height))
    result = cleaned(runs, (width, height), min_island_px, min_hole_px)
    assert (result[1:, 0] > result[:-1, 1]).all()
    return mask_of_runs(result, (width, height))


def test_the_empty_mask_stays_empty() -> None:
    assert cleaned(NO_RUNS, (9, 9), 5, 5).shape == (0, 2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["###.#", "###..", "....."], ["###..", "###..", "....."]),  # an island of one pixel
        (["##...", "##...", "..#.#"], ["##...", "##...", "..#.."]),  # connected over a corner
        (["#.#.#"], ["#...."]),  # the largest stays, however small
        (["#####", "#.#.#", "#####"], ["#####", "#####", "#####"]),  # two holes
        (["####.", "#..#.", "#..##", "####."], ["####.", "####.", "#####", "####."]),
        (["###", "#.#", "##."], ["###", "###", "##."]),  # closed over a corner
        (["###", "#..", "###"], ["###", "#..", "###"]),  # open to the border
        (["#####", "#...#", "#.#.#", "#...#", "#####"], ["#####"] * 5),  # the island is in the hole
    ],
)
def test_small_parts(before: list[str], after: list[str]) -> None:
    mask, expected = (
        np.array([[s == "#" for s in row] for row in rows]) for rows in (before, after)
    )
    np.testing.assert_array_equal(clean(mask, 2, 10), expected)


def test_of_equal_islands_the_first_one_stays() -> None:
    mask = np.array([[False, False, True], [True, False, False]])
    np.testing.assert_array_equal(clean(mask, 2, 0), by_opencv(mask, 2, 0))
    assert clean(mask, 2, 0)[0, 2]


def test_one_island_without_a_hole_returns_as_it_is() -> None:
    mask = np.ones((6, 7), dtype=bool)
    mask[0, 3] = False
    runs = runs_of_mask(mask, (2, 1), (20, 10))
    assert cleaned(runs, (20, 10), 1000, 1000) is runs


@given(
    st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
        lambda shape: arrays.arrays(np.bool_, shape)
    ),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_small_masks_are_cleaned_as_by_opencv(mask: Masks, island: int, hole: int) -> None:
    np.testing.assert_array_equal(clean(mask, island, hole), by_opencv(mask, island, hole))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.5, 0.6, 0.7, 0.95])
def test_noise_is_cleaned_as_by_opencv(share: float) -> None:
    random = np.random.default_rng(3)
    for _ in range(10):
        height, width = random.integers(20, 90, 2)
        mask = random.random((height, width)) < share
        island, hole = (int(least) for least in random.integers(0, 40, 2))
        np.testing.assert_array_equal(clean(mask, island, hole), by_opencv(mask, island, hole))


def test_blobs_are_cleaned_as_by_opencv() -> None:
    random = np.random.default_rng(4)
    for knots in range(4, 40, 3):
        mask = soft_noise(random, 160, 120, knots) > 0.1
        np.testing.assert_array_equal(clean(mask, 90, 60), by_opencv(mask, 90, 60))
