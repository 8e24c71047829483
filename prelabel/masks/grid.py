"""The place of a mask's cells among the pixels of its picture, one axis at a time.

The frame is that of `MaskLogits`: the centre of pixel i of the view lies at
`(i + 0.5) * cells / pixels - 0.5` cells, as in `torch.nn.functional.interpolate` with
`align_corners=False`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prelabel.types import Floats, Ints, MaskLogits


@dataclass(frozen=True)
class CellAxis:
    """The columns, or the rows, of a mask's crop.

    Attributes:
        view_start: First pixel of the view.
        scale: Cells per pixel.
        first_cell: Index of the crop's first cell in the grid.
        cells: Number of cells in the crop.
        first_px: First pixel that can belong to the mask: inside of the picture, the view, the clip
            box and the crop.
        stop_px: Pixel behind the last one; not smaller than `first_px`.
    """

    view_start: int
    scale: float
    first_cell: int
    cells: int
    first_px: int
    stop_px: int

    def cell_at(self, centres_px: Floats) -> Floats:
        """Convert positions in the picture to cells of the crop, clamped to its outermost centres.

        Args:
            centres_px: [N] positions with pixel edges at integers; a pixel's centre is at 0.5.
        """
        cells = (centres_px - self.view_start) * self.scale - 0.5 - self.first_cell
        clamped: Floats = np.clip(cells, 0, self.cells - 1)
        return clamped

    def pixel_at(self, cells: Floats) -> Floats:
        """Convert cells [N] of the crop to indices of pixels, with fractions."""
        return (cells + (self.first_cell + 0.5)) / self.scale + (self.view_start - 0.5)


def cell_axes(mask: MaskLogits, image_wh: tuple[int, int]) -> tuple[CellAxis, CellAxis]:
    """Return the axis of the columns and the axis of the rows."""
    columns, rows = (_axis(mask, axis, image_wh[axis]) for axis in (0, 1))
    return columns, rows


def lerp_weights(positions: Floats, cells: int) -> tuple[Ints, Floats]:
    """Return the lower of the two neighbours of each position, and the weight of the upper one.

    Args:
        positions: [N] in 0..cells - 1.
        cells: Number of cells, at least 2.
    """
    lower = np.minimum(positions.astype(np.int64), cells - 2)
    return lower, positions - lower


def _axis(mask: MaskLogits, axis: int, pixels: int) -> CellAxis:
    view_start, view_stop = mask.view_xyxy[axis], mask.view_xyxy[axis + 2]
    scale = mask.cells_wh[axis] / (view_stop - view_start)
    first_cell, cells = mask.origin_xy[axis], mask.logits.shape[1 - axis]
    first, stop = max(view_start, 0), min(view_stop, pixels)
    if mask.clip_xyxy is not None:
        low, high = (min(max(mask.clip_xyxy[i], 0), pixels) for i in (axis, axis + 2))
        first, stop = max(first, math.ceil(low - 0.5)), min(stop, math.floor(high - 0.5) + 1)
    bare = CellAxis(view_start, scale, first_cell, cells, first, stop)
    # The cells beside the crop are negative by an unknown amount. Where the zero lies between them
    # and the crop is unknown as well; the mask ends at the centres of the crop's outermost cells.
    left, right = bare.pixel_at(np.array([0.0, cells - 1.0])).tolist()
    if first_cell > 0:
        first = max(first, math.ceil(left))
    if first_cell + cells < mask.cells_wh[axis]:
        stop = min(stop, math.floor(right) + 1)
    return CellAxis(view_start, scale, first_cell, cells, first, max(first, stop))
