"""Low-resolution logits -> runs of the picture's pixels, without the interpolated picture.

Between the centres of four cells, bilinear interpolation is a straight line along each row of
pixels, so that the column where it crosses zero can be computed. Squares of four cells with equal
signs hold no crossing. The work grows with the outline of a mask and not with its area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prelabel.masks.grid import CellAxis, cell_axes, lerp_weights
from prelabel.masks.islands import cleaned
from prelabel.masks.runs import NO_RUNS, joined
from prelabel.types import Floats, Ints, MaskLogits, Masks


def mask_runs(
    mask: MaskLogits, image_wh: tuple[int, int], min_island_px: int, min_hole_px: int
) -> Ints:
    """Return the runs of a mask without small islands and holes.

    Args:
        mask: The logits.
        image_wh: Width and height of the picture.
        min_island_px: Islands with fewer pixels are removed, except for the largest.
        min_hole_px: Holes with fewer pixels are filled.
    """
    return cleaned(runs_of_logits(mask, image_wh), image_wh, min_island_px, min_hole_px)


def runs_of_logits(mask: MaskLogits, image_wh: tuple[int, int]) -> Ints:
    """Return the runs of the pixels at whose centres the interpolated logit is positive.

    They are the pixels of `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`
    in float64, apart from pixels at which the logit is zero but for rounding. A crop that does not
    reach the border of the grid ends at the centres of its outermost cells. A crop that contains
    the last, perhaps partial cell of the view is constant beyond that cell's centre.

    Args:
        mask: Finite logits.
        image_wh: Width and height of the picture.
    """
    columns, rows = cell_axes(mask, image_wh)
    if not mask.logits.size or columns.first_px == columns.stop_px:
        return NO_RUNS
    logits = mask.logits.astype(np.float64)
    if len(logits) == 1:
        logits = np.repeat(logits, 2, axis=0)
    centres = np.arange(rows.first_px, rows.stop_px) + 0.5
    band, weight = lerp_weights(rows.cell_at(centres), len(logits))
    crossings = _crossings(logits, band, weight)
    column = _first_pixel_beyond(crossings, columns)
    opened, closed = (
        np.flatnonzero(_lerp(side[band], side[band + 1], weight) > 0)
        for side in (logits[:, 0], logits[:, -1])
    )
    base = (np.arange(rows.first_px, rows.stop_px)) * image_wh[0]
    rises = crossings.rises
    starts = (base[opened] + columns.first_px, (base[crossings.row] + column)[rises])
    stops = (base[closed] + columns.stop_px, (base[crossings.row] + column)[~rises])
    # The starts of a row alternate with its stops, so that both can be sorted alone.
    runs = np.stack((np.sort(np.concatenate(starts)), np.sort(np.concatenate(stops))), axis=1)
    return joined(runs[runs[:, 0] < runs[:, 1]])


@dataclass(frozen=True)
class _Crossings:
    """The zeros along the rows of pixels, in no order, [N] each.

    Attributes:
        row: Index of the row of pixels.
        cell: Column of the zero in cells of the crop, with fraction.
        rises: True where the logits become positive to the right.
    """

    row: Ints
    cell: Floats
    rises: Masks


def _crossings(logits: Floats, band: Ints, weight: Floats) -> _Crossings:
    """Find the zeros. Pixel row i lies between rows `band[i]` and `band[i] + 1` of the cells."""
    top_left, top_right, bottom_left, bottom_right, row, column = _mixed_squares(logits, band)
    left = _lerp(top_left, bottom_left, weight[row])
    right = _lerp(top_right, bottom_right, weight[row])
    rises = right > 0
    [at] = np.nonzero((left > 0) != rises)
    left, right = left[at], right[at]
    return _Crossings(row[at], column[at] + left / (left - right), rises[at])


def _mixed_squares(logits: Floats, band: Ints) -> tuple[Floats, Floats, Floats, Floats, Ints, Ints]:
    """Find the squares of four cells whose signs differ, once for each row of pixels in them.

    Returns:
        Logits at the four corners, index of the row of pixels, column of the left corners; [N].
    """
    positive = logits > 0
    some, every = positive[:-1] | positive[1:], positive[:-1] & positive[1:]
    mixed = (some[:, :-1] | some[:, 1:]) & ~(every[:, :-1] & every[:, 1:])
    row_of_cells, column = np.nonzero(mixed)
    first_row = np.searchsorted(band, np.arange(len(logits)))  # bands ascend with the rows
    count = np.diff(first_row)[row_of_cells]
    behind = np.cumsum(count)
    total = int(behind[-1]) if len(behind) else 0
    row = np.arange(total) + np.repeat(first_row[row_of_cells] - behind + count, count)
    corner = row_of_cells * logits.shape[1] + column
    below = corner + logits.shape[1]
    flat = logits.ravel()
    at_corners = (flat[place] for place in (corner, corner + 1, below, below + 1))
    top_left, top_right, bottom_left, bottom_right = (np.repeat(c, count) for c in at_corners)
    return top_left, top_right, bottom_left, bottom_right, row, np.repeat(column, count)


def _first_pixel_beyond(crossings: _Crossings, columns: CellAxis) -> Ints:
    """Return the first pixel of the other sign behind each zero, inside of the axis."""
    position = columns.pixel_at(crossings.cell)
    # A pixel that lies on the zero does not belong to the mask.
    pixel = np.where(crossings.rises, np.floor(position) + 1, np.ceil(position))
    return np.clip(pixel, columns.first_px, columns.stop_px).astype(np.int64)


def _lerp(lower: Floats, upper: Floats, weight: Floats) -> Floats:
    # In this form two numbers of one sign never give the other sign, whatever the rounding.
    return lower * (1 - weight) + upper * weight
