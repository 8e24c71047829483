"""Outer rings of masks, drawn from the low-resolution logits.

The logits are sampled on a raster that is finer than their cells and coarser than a large picture,
because tracing a mask of 12 megapixels takes 26 ms. The outlines run along the edges of the
raster's pixels and are then simplified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from prelabel.masks.grid import CellAxis, cell_axes, lerp_weights
from prelabel.masks.rings import simplified_ring
from prelabel.types import Floats, Ints, MaskLogits, Masks

# Raster pixels per cell; along a side of the mask at least _FEWEST, so that a small mask in a large
# picture has a smooth outline, and at most _MOST, which bounds the time. The raster is never finer
# than the picture.
_PER_CELL = 4
_FEWEST = 256
_MOST = 512

# Tolerance by the square root of the area, so that a ring looks alike at every scale, and costs
# about one percent of IoU. Below 0.71 raster pixels a tolerance keeps every stair of a slanted
# outline. Therefore it is raised to that, unless the mask is so small that this costs another
# percent; the outline of such a mask has few stairs.
_TOLERANCE = 0.006
_STAIRS = 0.72
_SMALL = 0.016


@dataclass(frozen=True)
class Ring:
    """The outline of one connected part of a mask. Its holes are lost: they belong to the inside.

    Attributes:
        points_xy: [n, 2] float64 pixels of the picture with pixel edges at integers; 3 <= n <= 200.
            The last point is not the first one again. The ring neither crosses nor touches itself.
        lost_holes: Number of holes that are lost.
        lost_px: Their area in pixels.
    """

    points_xy: Floats
    lost_holes: int
    lost_px: float


def polygons(
    mask: MaskLogits,
    image_wh: tuple[int, int],
    *,
    min_island_px: int = 0,
    min_hole_px: int = 0,
    tolerance_px: float | None = None,
) -> list[Ring]:
    """Return the rings around a mask, largest first; none for the empty mask.

    Args:
        mask: Finite logits.
        image_wh: Width and height of the picture.
        min_island_px: Islands of a smaller area are left out, except for the largest.
        min_hole_px: Holes of a smaller area are not counted as lost.
        tolerance_px: Greatest distance of the outline from its ring, in pixels of the picture,
            unless the ring would have more than 200 points; None for one that fits the mask's size.
    """
    raster = _rasterised(mask, image_wh)
    if raster is None:
        return []
    islands = _islands(raster, min_hole_px)
    islands.sort(key=lambda island: -island.area_px)
    rings = []
    for i, island in enumerate(islands):
        if i > 0 and island.area_px < min_island_px:
            break
        tolerance = tolerance_px
        if tolerance is None:
            tolerance = default_tolerance_px(island.area_px, raster.step_px)
        corners = simplified_ring(island.corners, tolerance * 2 / raster.step_px)
        points = raster.points_xy(corners)
        rings.append(Ring(points, island.lost_holes, island.lost_px))
    return rings


def default_tolerance_px(area_px: float, step_px: float = 1.0) -> float:
    """Return the tolerance for a mask of an area, drawn on a raster of pixels of size `step_px`."""
    size = math.sqrt(area_px)
    return max(_TOLERANCE * size, min(_STAIRS * step_px, _SMALL * size))


@dataclass(frozen=True)
class _Raster:
    """A mask on a raster over a part of the picture.

    Attributes:
        inside: bool [h, w].
        origin_xy: Position of its left top corner in the picture, in pixels.
        side_wh: Its width and height in pixels of the picture.
    """

    inside: Masks
    origin_xy: tuple[int, int]
    side_wh: tuple[int, int]

    @property
    def pixel_area(self) -> float:
        return self.side_wh[0] * self.side_wh[1] / self.inside.size

    @property
    def step_px(self) -> float:
        return math.sqrt(self.pixel_area)

    def points_xy(self, corners: Ints) -> Floats:
        """Convert corners in halves of raster pixels to positions in the picture."""
        height, width = self.inside.shape
        # Multiplied first, so that corners at the raster's border lie exactly at the clip box.
        offsets = corners * np.array(self.side_wh) / np.array((2 * width, 2 * height))
        points: Floats = offsets + np.array(self.origin_xy)
        return points


@dataclass(frozen=True)
class _Island:
    """A connected part: its outline [n, 2] in halves of raster pixels, its areas without holes."""

    corners: Ints
    area_px: float
    lost_holes: int
    lost_px: float


def _rasterised(mask: MaskLogits, image_wh: tuple[int, int]) -> _Raster | None:
    """Sample the logits; None for a mask without positive cells in its limits."""
    positive = mask.logits > 0
    occupied = [np.flatnonzero(positive.any(axis=axis)) for axis in (0, 1)]
    if not len(occupied[0]):
        return None
    axes = cell_axes(mask, image_wh)
    spans = [_span(axis, cells) for axis, cells in zip(axes, occupied, strict=True)]
    (left, right), (top, bottom) = spans
    width, height = right - left, bottom - top
    if min(width, height) <= 0:
        return None
    longest, cell_px = max(width, height), 1 / max(axis.scale for axis in axes)
    step = max(1, longest / _MOST, min(cell_px / _PER_CELL, longest / _FEWEST))
    # Whole numbers of raster pixels, so that the raster ends where the clip box does.
    columns, rows = max(1, round(width / step)), max(1, round(height / step))
    logits = mask.logits.astype(np.float32)
    at_rows = axes[1].cell_at(top + (np.arange(rows) + 0.5) * (height / rows))
    at_columns = axes[0].cell_at(left + (np.arange(columns) + 0.5) * (width / columns))
    inside = _interpolated(_interpolated(logits, at_rows, 0), at_columns, 1) > 0
    return _Raster(inside, (left, top), (width, height))


def _span(axis: CellAxis, occupied: Ints) -> tuple[int, int]:
    """Return the first pixel and the one behind the last that the occupied cells can reach."""
    around = np.array([occupied[0] - 1, occupied[-1] + 1], dtype=np.float64)
    low, high = axis.pixel_at(around)
    # At the border of the grid the outermost cells reach on.
    first = axis.first_px if around[0] < 0 else max(axis.first_px, math.floor(low))
    stop = axis.stop_px if around[1] >= axis.cells else min(axis.stop_px, math.ceil(high) + 1)
    return first, stop


def _interpolated(logits: Floats, positions: Floats, axis: int) -> Floats:
    if logits.shape[axis] == 1:
        return np.repeat(logits, len(positions), axis=axis)
    lower, weight = lerp_weights(positions, logits.shape[axis])
    weight = weight.astype(np.float32)
    if axis == 0:
        weight = weight[:, None]
    low, high = np.take(logits, lower, axis=axis), np.take(logits, lower + 1, axis=axis)
    mixed: Floats = low * (1 - weight) + high * weight
    return mixed


def _islands(raster: _Raster, min_hole_px: int) -> list[_Island]:
    # cv2 traces the centres of an object's outermost points. The points here are the corners of the
    # raster's pixels, the middles of their edges and their centres.
    points = _points_of_pixels(raster.inside)
    contours, hierarchy = cv2.findContours(points, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    areas = [cv2.contourArea(contour) / 4 * raster.pixel_area for contour in contours]
    parents = hierarchy[0, :, 3].tolist()
    holes: dict[int, list[float]] = {i: [] for i, parent in enumerate(parents) if parent < 0}
    for parent, area in zip(parents, areas, strict=True):
        if parent >= 0:
            holes[parent].append(area)
    return [
        _Island(
            contours[i][:, 0].astype(np.int64),
            areas[i] - sum(of_island),
            sum(area >= min_hole_px for area in of_island),
            sum(area for area in of_island if area >= min_hole_px),
        )
        for i, of_island in holes.items()
    ]


def _points_of_pixels(inside: Masks) -> NDArray[np.uint8]:
    """Mark the nine points of each pixel of the mask: uint8 [2 h + 1, 2 w + 1].

    Where two pixels meet at a corner only, the corner is not marked: cv2 joins the points beside it
    over the diagonal, and the outline passes on either side in place of twice through the corner.
    """
    height, width = inside.shape
    rows = np.zeros((height, 2 * width + 1), dtype=np.uint8)
    rows[:, 1::2] = inside
    rows[:, :-1:2] = inside
    rows[:, 2::2] |= inside
    points = np.zeros((2 * height + 1, 2 * width + 1), dtype=np.uint8)
    points[1::2] = rows
    points[:-1:2] = rows
    points[2::2] |= rows
    a, b, c, d = inside[:-1, :-1], inside[:-1, 1:], inside[1:, :-1], inside[1:, 1:]
    points[2:-1:2, 2:-1:2][(a == d) & (b == c) & (a != b)] = 0
    return points
