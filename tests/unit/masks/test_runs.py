from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prelabel.masks.runs import (
    NO_RUNS,
    area,
    bounds,
    intersect,
    mask_of_runs,
    runs_of_mask,
    subtract,
    unite,
    without_overlaps,
)
from prelabel.types import Ints, Masks

sides = st.integers(1, 12)
masks = st.tuples(sides, sides).flatmap(lambda shape: arrays.arrays(np.bool_, shape))


def runs_of(mask: Masks) -> Ints:
    return runs_of_mask(mask, (0, 0), (mask.shape[1], mask.shape[0]))


@pytest.mark.parametrize(
    ("rows", "runs"),
    [
        (["....", "...."], []),
        (["####", "####"], [[0, 8]]),
        ([".##.", "#..#"], [[1, 3], [4, 5], [7, 8]]),
        (["..##", "##.."], [[2, 6]]),
        (["#"], [[0, 1]]),
    ],
)
def test_runs_of_a_mask(rows: list[str], runs: list[list[int]]) -> None:
    found = runs_of(np.array([[sign == "#" for sign in row] for row in rows]))
    assert found.tolist() == runs
    assert found.dtype == np.int64
    assert found.shape == (len(runs), 2)


def test_runs_of_a_part_lie_at_its_place() -> None:
    part = np.array([[True, False, True], [True, True, True]])
    runs = runs_of_mask(part, (2, 1), (5, 4))
    picture = np.zeros((4, 5), dtype=bool)
    picture[1:3, 2:5] = part
    np.testing.assert_array_equal(mask_of_runs(runs, (5, 4)), picture)
    np.testing.assert_array_equal(runs, runs_of(picture))


@given(masks)
def test_a_mask_survives_its_runs(mask: Masks) -> None:
    runs = runs_of(mask)
    height, width = mask.shape
    np.testing.assert_array_equal(mask_of_runs(runs, (width, height)), mask)
    assert area(runs) == mask.sum()
    assert (runs[:, 0] < runs[:, 1]).all()
    assert (runs[1:, 0] > runs[:-1, 1]).all()


@given(masks, st.data())
def test_a_crop_is_the_part_of_the_mask(mask: Masks, data: st.DataObject) -> None:
    height, width = mask.shape
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right = data.draw(st.integers(left + 1, width))
    bottom = data.draw(st.integers(top + 1, height))
    crop = mask_of_runs(runs_of(mask), (width, height), (left, top, right, bottom))
    np.testing.assert_array_equal(crop, mask[top:bottom, left:right])


@given(masks)
def test_bounds_are_the_smallest_box(mask: Masks) -> None:
    rows, columns = np.nonzero(mask)
    expected = None
    if len(rows):
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert bounds(runs_of(mask), mask.shape[1]) == expected


@given(masks, st.integers(0, 2**32 - 1))
def test_the_algebra_is_that_of_bitmaps(a: Masks, seed: int) -> None:
    b = np.random.default_rng(seed).random(a.shape) < 0.5
    of_a, of_b = runs_of(a), runs_of(b)
    np.testing.assert_array_equal(subtract(of_a, of_b), runs_of(a & ~b))
    np.testing.assert_array_equal(intersect(of_a, of_b), runs_of(a & b))
    np.testing.assert_array_equal(unite(of_a, of_b), runs_of(a | b))


def test_the_algebra_of_nothing() -> None:
    some = np.array([[2, 5]])
    for result in (subtract(NO_RUNS, some), intersect(NO_RUNS, some), subtract(some, some)):
        assert result.shape == (0, 2)
    np.testing.assert_array_equal(unite(NO_RUNS, some), some)


def test_no_masks_have_no_overlaps() -> None:
    assert without_overlaps([]) == []


@given(st.lists(arrays.arrays(np.bool_, (6, 9)), max_size=6))
def test_each_pixel_belongs_to_the_first_mask_that_has_it(bitmaps: list[Masks]) -> None:
    taken = np.zeros((6, 9), dtype=bool)
    disjoint = without_overlaps([runs_of(bitmap) for bitmap in bitmaps])
    assert len(disjoint) == len(bitmaps)
    for runs, bitmap in zip(disjoint, bitmaps, strict=True):
        np.testing.assert_array_equal(runs, runs_of(bitmap & ~taken))
        taken |= bitmap
