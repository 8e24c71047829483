from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prelabel.masks.islands import cleaned
from prelabel.masks.logits import runs_of_logits
from prelabel.masks.polygons import Ring, polygons
from prelabel.masks.rings import MOST_POINTS, is_simple, simplified_ring
from prelabel.masks.runs import bounds, mask_of_runs
from prelabel.types import Floats, MaskLogits, Masks
from tests.support.masks import (
    analytic,
    blob,
    disc,
    drawn,
    mask_iou,
    of_whole_view,
    random_mask,
    soft_noise,
)


def exact(mask: MaskLogits, image_wh: tuple[int, int]) -> Masks:
    """The mask with its holes filled."""
    runs = cleaned(runs_of_logits(mask, image_wh), image_wh, 0, image_wh[0] * image_wh[1])
    return mask_of_runs(runs, image_wh)


def segments_meet(p: Floats, q: Floats, r: Floats, s: Floats) -> bool:
    """True if the segments pq and rs share a point, up to rounding."""

    def side(a: Floats, b: Floats, c: Floats) -> float:
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        return 0.0 if abs(area) < 1e-9 else float(np.sign(area))

    if (np.maximum(p, q) < np.minimum(r, s) - 1e-9).any():
        return False
    if (np.maximum(r, s) < np.minimum(p, q) - 1e-9).any():
        return False
    return side(p, q, r) * side(p, q, s) <= 0 and side(r, s, p) * side(r, s, q) <= 0


def is_valid(ring: Floats) -> bool:
    """True if no two segments meet but neighbours at their common point."""
    after = np.roll(ring, -1, axis=0)
    n = len(ring)
    for i in range(n):
        for k in range(i + 2, n - (i == 0)):
            if segments_meet(ring[i], after[i], ring[k], after[k]):
                return False
    return True


def check(rings: list[Ring], image_wh: tuple[int, int]) -> None:
    for ring in rings:
        points = ring.points_xy
        assert points.shape[1:] == (2,)
        assert 3 <= len(points) <= MOST_POINTS
        assert is_valid(points)
        assert (points >= 0).all()
        assert (points <= image_wh).all()


@pytest.mark.parametrize("logits", [np.zeros((0, 0)), np.zeros((3, 3)), -np.ones((4, 2))])
def test_a_mask_without_positive_logits_has_no_ring(logits: Floats) -> None:
    mask = replace(of_whole_view(logits, (40, 30)), cells_wh=(3.0, 3.0))
    assert polygons(mask, (40, 30)) == []


def test_a_clip_box_beside_the_mask_leaves_no_ring() -> None:
    mask = replace(of_whole_view(np.ones((3, 3)), (40, 30)), clip_xyxy=(50.0, 0.0, 60.0, 9.0))
    assert polygons(mask, (40, 30)) == []


@pytest.mark.parametrize(
    ("clip", "box"),
    [
        (None, (0, 0, 4000, 3000)),
        ((100.2, 200.0, 3000.9, 2000.0), (100, 200, 3001, 2000)),
        ((10.0, 10.0, 14.0, 12.0), (10, 10, 14, 12)),
    ],
)
def test_a_positive_grid_is_the_clip_box(
    clip: tuple[float, float, float, float] | None, box: tuple[int, int, int, int]
) -> None:
    mask = replace(of_whole_view(np.ones((48, 64)), (4000, 3000)), clip_xyxy=clip)
    [ring] = polygons(mask, (4000, 3000))
    left, top, right, bottom = box
    corners = {(left, top), (left, bottom), (right, bottom), (right, top)}
    assert {tuple(point) for point in ring.points_xy.tolist()} == corners
    assert bounds(runs_of_logits(mask, (4000, 3000)), 4000) == box


@pytest.mark.parametrize("image_wh", [(64, 64), (640, 480), (480, 1000), (4000, 3000)])
@pytest.mark.parametrize("share", [0.05, 0.12, 0.3, 0.8])
def test_rings_of_blobs_cover_the_mask(image_wh: tuple[int, int], share: float) -> None:
    random = np.random.default_rng(9)
    for cells_wh in ((256.0, 256.0), (256.0, 170.67)):
        radius = share * min(image_wh) / 2
        x, y = (random.uniform(radius, side - radius) for side in image_wh)
        mask = analytic(blob(random, x, y, radius), cells_wh, image_wh)
        rings = polygons(mask, image_wh)
        check(rings, image_wh)
        expected = exact(mask, image_wh)
        assert mask_iou(drawn([ring.points_xy for ring in rings], image_wh), expected) > 0.98
        assert len(rings[0].points_xy) < 120


def test_rings_of_any_grid_view_and_clip_box_cover_the_mask() -> None:
    random = np.random.default_rng(13)
    for _ in range(80):
        mask, image_wh = random_mask(random)
        rings = polygons(mask, image_wh)
        expected = exact(mask, image_wh)
        assert bool(rings) == expected.any()
        if rings:
            assert mask_iou(drawn([ring.points_xy for ring in rings], image_wh), expected) > 0.97


@pytest.mark.parametrize("pixels", [1, 2, 3, 5, 8, 13])
def test_rings_of_a_few_pixels_are_exact(pixels: int) -> None:
    random = np.random.default_rng(10)
    logits = np.full((12, 12), -1.0)
    at = np.array([6, 6])
    for _ in range(pixels):
        logits[*at] = 1
        at = np.clip(at + random.integers(-1, 2, 2), 1, 10)
    mask = of_whole_view(logits, (12, 12))
    rings = polygons(mask, (12, 12))
    check(rings, (12, 12))
    np.testing.assert_array_equal(
        drawn([ring.points_xy for ring in rings], (12, 12)), exact(mask, (12, 12))
    )


@pytest.mark.slow
def test_rings_of_noise_are_valid() -> None:
    random = np.random.default_rng(11)
    seen = 0
    for knots in (5, 9, 16, 30, 60):
        for image_wh in ((90, 70), (500, 700)):
            width, height = (64, 48)
            grid = soft_noise(random, width, height, knots)
            mask = of_whole_view(grid, image_wh)
            for tolerance in (None, 0.0, 3.0):
                rings = polygons(mask, image_wh, min_island_px=20, tolerance_px=tolerance)
                check(rings, image_wh)
                seen += len(rings)
    assert seen > 300


def test_pixels_that_meet_at_a_corner_are_one_valid_ring() -> None:
    mask = of_whole_view(np.where(np.eye(6), 1.0, -9.0), (6, 6))
    [ring] = polygons(mask, (6, 6), tolerance_px=0)
    assert is_valid(ring.points_xy)
    assert drawn([ring.points_xy], (6, 6)).diagonal().all()


def test_islands_are_sorted_and_small_ones_left_out() -> None:
    def distance(x: Floats, y: Floats) -> Floats:
        return np.asarray(np.maximum(disc(30, 40, 10)(x, y), disc(120, 60, 25)(x, y)))

    mask = analytic(distance, (200, 100), (200, 100))
    large, small = polygons(mask, (200, 100))
    assert large.points_xy[:, 0].min() > 90
    assert small.points_xy[:, 0].max() < 45
    assert len(polygons(mask, (200, 100), min_island_px=330)) == 1
    assert len(polygons(mask, (200, 100), min_island_px=9000)) == 1
    assert len(polygons(mask, (200, 100), min_island_px=300)) == 2


def test_lost_holes_are_counted() -> None:
    def distance(x: Floats, y: Floats) -> Floats:
        holes = np.maximum(disc(80, 100, 15)(x, y), disc(130, 100, 4)(x, y))
        return np.asarray(np.minimum(disc(100, 100, 60)(x, y), -holes))

    mask = analytic(distance, (200, 200), (200, 200))
    [ring] = polygons(mask, (200, 200))
    assert ring.lost_holes == 2
    assert ring.lost_px == pytest.approx(np.pi * (15**2 + 4**2), rel=0.05)
    [ring] = polygons(mask, (200, 200), min_hole_px=100)
    assert ring.lost_holes == 1
    assert ring.lost_px == pytest.approx(np.pi * 15**2, rel=0.05)


def test_a_mask_of_a_tile_lies_at_the_tile() -> None:
    mask = analytic(disc(60, 50, 30), (64, 64), (128, 128))
    [alone] = polygons(mask, (128, 128))
    [tile] = polygons(replace(mask, view_xyxy=(300, 200, 428, 328)), (600, 500))
    np.testing.assert_allclose(tile.points_xy, alone.points_xy + np.array([300, 200]))


@pytest.mark.parametrize(
    ("ring", "simple"),
    [
        ([[0, 0], [4, 0]], False),
        ([[0, 0], [4, 0], [2, 3]], True),
        ([[0, 0], [4, 0], [8, 0]], False),  # on one line
        ([[0, 0], [4, 0], [4, 4], [0, 4]], True),
        ([[0, 0], [4, 4], [4, 0], [0, 4]], False),  # crosses itself
        ([[0, 0], [8, 0], [8, 4], [4, 0], [0, 4]], False),  # a corner on an edge
        ([[0, 0], [8, 0], [8, 4], [4, 1], [0, 4]], True),
        ([[0, 0], [4, 0], [4, 0], [2, 3]], False),  # a point twice
        ([[0, 0], [6, 0], [3, 0], [3, 4]], False),  # turns back
        ([[0, 0], [2, 0], [4, 0], [4, 4]], True),  # goes straight on
    ],
)
def test_simple_rings(ring: list[list[int]], simple: bool) -> None:
    for shift in range(len(ring)):
        turned = np.roll(np.array(ring), shift, axis=0)
        assert is_simple(turned) == simple
        assert is_simple(turned[::-1]) == simple


def test_a_ring_of_many_points_is_cut_to_the_limit() -> None:
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    radius = 5000 + 900 * np.sin(150 * angle)
    star = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).astype(np.int64)
    ring = simplified_ring(star, 0.5)
    assert 3 <= len(ring) <= MOST_POINTS
    assert is_valid(ring.astype(float))


def test_a_ring_that_simplification_would_cross_stays_simple() -> None:
    random = np.random.default_rng(12)
    # Thin winding outlines: a random walk, thickened.
    for _ in range(60):
        path = np.zeros((40, 40))
        at = np.array([20, 20])
        for _ in range(120):
            path[*at] = 1
            at = np.clip(at + random.integers(-1, 2, 2), 1, 38)
        mask = of_whole_view(np.where(path > 0, 1.0, -1.0), (40, 40))
        check(polygons(mask, (40, 40), tolerance_px=1.0), (40, 40))
