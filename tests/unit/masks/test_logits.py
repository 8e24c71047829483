"""Runs of logits against torch's bilinear interpolation and against known shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prelabel.masks.logits import mask_runs, runs_of_logits
from prelabel.masks.runs import area, mask_of_runs
from prelabel.types import Floats, MaskLogits
from tests.support.masks import (
    Distance,
    analytic,
    disc,
    interpolated,
    of_whole_view,
    random_mask,
    rectangle,
)


@pytest.mark.parametrize("logits", [np.zeros((0, 0)), np.zeros((3, 3)), -np.ones((4, 2))])
def test_a_mask_without_positive_logits_is_empty(logits: Floats) -> None:
    mask = replace(of_whole_view(logits, (40, 30)), cells_wh=(3.0, 3.0))
    assert runs_of_logits(mask, (40, 30)).shape == (0, 2)
    assert mask_runs(mask, (40, 30), 5, 5).shape == (0, 2)


def test_a_clip_box_beside_the_picture_leaves_nothing() -> None:
    mask = replace(of_whole_view(np.ones((3, 3)), (40, 30)), clip_xyxy=(50.0, -9.0, 60.0, -1.0))
    assert runs_of_logits(mask, (40, 30)).shape == (0, 2)


def test_a_positive_grid_is_the_whole_picture() -> None:
    for shape in ((1, 1), (1, 5), (5, 1), (3, 4)):
        assert runs_of_logits(of_whole_view(np.ones(shape), (40, 30)), (40, 30)).tolist() == [
            [0, 1200]
        ]


def test_no_pixel_differs_from_torch() -> None:
    random = np.random.default_rng(11)
    pixels = 0
    for _ in range(400):
        mask, image_wh = random_mask(random)
        expected = interpolated(mask, image_wh) > 0
        found = mask_of_runs(runs_of_logits(mask, image_wh), image_wh)
        np.testing.assert_array_equal(found, expected, err_msg=repr(mask))
        pixels += int(expected.sum())
    assert pixels > 1e6


@given(
    arrays.arrays(
        np.float16, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(-2, 2)
    ),
    st.sampled_from([1, 2, 4, 8]),
)
def test_a_pixel_on_the_zero_is_outside(logits: Floats, scale: int) -> None:
    image_wh = (logits.shape[1] * scale, logits.shape[0] * scale)
    mask = of_whole_view(logits, image_wh)
    found = mask_of_runs(runs_of_logits(mask, image_wh), image_wh)
    np.testing.assert_array_equal(found, interpolated(mask, image_wh) > 0)


def test_a_crop_ends_at_the_centres_of_its_outermost_cells() -> None:
    # Ten pixels a cell: the crop's centres lie at 25, 35 and 45 pixels.
    mask = MaskLogits(np.ones((3, 3)), (2, 2), (10, 10), (0, 0, 100, 100), None, 0.9)
    found = mask_of_runs(runs_of_logits(mask, (100, 100)), (100, 100))
    expected = np.zeros((100, 100), dtype=bool)
    expected[25:45, 25:45] = True
    np.testing.assert_array_equal(found, expected)


def test_a_crop_at_the_border_of_the_grid_reaches_the_border_of_the_view() -> None:
    mask = MaskLogits(np.ones((3, 3)), (7, 7), (10, 9.5), (0, 0, 100, 95), None, 0.9)
    found = mask_of_runs(runs_of_logits(mask, (100, 95)), (100, 95))
    expected = np.zeros((95, 100), dtype=bool)
    expected[75:, 75:] = True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("clip", "columns"),
    [((3.5, 0, 6.5, 9), (3, 7)), ((3.6, 0, 6.4, 9), (4, 6)), ((3, 0, 3, 9), (3, 3))],
)
def test_a_pixel_belongs_to_a_clip_box_that_holds_its_centre(
    clip: tuple[float, float, float, float], columns: tuple[int, int]
) -> None:
    mask = replace(of_whole_view(np.ones((2, 2)), (9, 9)), clip_xyxy=clip)
    found = mask_of_runs(runs_of_logits(mask, (9, 9)), (9, 9))
    assert np.flatnonzero(found.any(axis=0)).tolist() == list(range(*columns))


IMAGES = [(64, 64), (200, 150), (150, 500), (1024, 768), (2000, 500), (4000, 3000)]
GRIDS = [(64.0, 64.0), (128.0, 96.0), (256.0, 170.67), (170.67, 256.0), (256.0, 256.0)]


@pytest.mark.parametrize("image_wh", IMAGES)
@pytest.mark.parametrize("cells_wh", GRIDS)
@pytest.mark.parametrize("shape", ["disc", "rectangle"])
def test_a_known_shape_lies_within_half_a_pixel(
    image_wh: tuple[int, int], cells_wh: tuple[float, float], shape: str
) -> None:
    width, height = image_wh
    x, y, size = width * 0.47, height * 0.56, min(image_wh) * 0.37
    outline, true_area = 2 * np.pi * size, np.pi * size**2
    distance: Distance = disc(x, y, size)
    if shape == "rectangle":
        distance = rectangle(x - size, y - size / 2, x + size, y + size / 2)
        outline, true_area = 6 * size, 2 * size**2
    mask = analytic(distance, cells_wh, image_wh)
    runs = runs_of_logits(mask, image_wh)
    rows, columns = np.nonzero(mask_of_runs(runs, image_wh))
    assert abs(columns.mean() + 0.5 - x) < 0.5
    assert abs(rows.mean() + 0.5 - y) < 0.5
    assert abs(area(runs) - true_area) / outline < 0.5


def test_a_mask_of_a_tile_lies_at_the_tile() -> None:
    mask = analytic(disc(60, 50, 30), (64, 64), (128, 128))
    alone = mask_of_runs(runs_of_logits(mask, (128, 128)), (128, 128))
    tile = replace(mask, view_xyxy=(300, 200, 428, 328))
    found = mask_of_runs(runs_of_logits(tile, (420, 500)), (420, 500))
    np.testing.assert_array_equal(found[200:328, 300:420], alone[:, :120])
    assert found.sum() == alone[:, :120].sum()


def test_a_neck_thinner_than_a_pixel_leaves_an_island_that_is_removed() -> None:
    # The signs of the cells are connected, but the pixels' centres lie beside the neck.
    logits = np.full((5, 9), -10.0)
    logits[1:4, 1:5] = 10
    logits[2, 5:8] = 0.1, 0.1, 10
    mask = of_whole_view(logits, (18, 10))
    whole, cleaned = runs_of_logits(mask, (18, 10)), mask_runs(mask, (18, 10), 8, 0)
    assert area(whole) - area(cleaned) == 4
