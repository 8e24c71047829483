"""Frames of a segmenter: pixels of the picture, pixels of the model's input, cells of a mask.

A model reads a square picture and answers on a square grid of cells. SAM keeps a picture's
proportions and pads it at the bottom and at the right, so that the picture covers a part of the
grid only; SAM 2 stretches the picture to the square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prelabel.types import Floats, MaskPrompt

CELLS_PER_TOKEN = 4  # along a side: the mask decoder upsamples image tokens twice by two

Window = tuple[int, int, int, int]  # left, top, right, bottom in whole cells or tokens, half open


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes of a model.

    Attributes:
        input_px: Side of the square input in pixels.
        tokens: Side of the grid of image tokens.
        keeps_proportions: True if a picture is padded to the square (SAM), False if it is
            stretched (SAM 2).
    """

    input_px: int
    tokens: int
    keeps_proportions: bool

    @property
    def cells(self) -> int:
        """Side of the grid of mask logits."""
        return self.tokens * CELLS_PER_TOKEN

    def frame(self, image_wh: tuple[int, int]) -> Frame:
        """Return the frame of a picture of that size.

        The size is that of `SamImageProcessor._get_preprocess_shape` of transformers.
        """
        if not self.keeps_proportions:
            return Frame(self, image_wh, (self.input_px, self.input_px))
        scale = self.input_px / max(image_wh)
        width, height = (max(1, int(side * scale + 0.5)) for side in image_wh)
        return Frame(self, image_wh, (width, height))


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of one picture in a model's input.

    Attributes:
        geometry: The sizes of the model.
        image_wh: Width and height of the picture in pixels.
        input_wh: Width and height in pixels to which the picture is resized; it lies at the top
            left of the input.
    """

    geometry: Geometry
    image_wh: tuple[int, int]
    input_wh: tuple[int, int]

    @property
    def cells_wh(self) -> tuple[float, float]:
        """Columns and rows of cells that the picture covers; fractional beside padding."""
        width, height = (
            self.geometry.cells * side / self.geometry.input_px for side in self.input_wh
        )
        return width, height

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Pixels of the input per pixel of the picture, along x and y."""
        return self.input_wh[0] / self.image_wh[0], self.input_wh[1] / self.image_wh[1]

    def window(self, clip_xyxy: tuple[float, float, float, float] | None) -> Window:
        """Return the cells on which the logits at pixels of a box depend, and one cell of margin.

        The logit at a pixel's centre is interpolated between two columns and two rows. Beside
        padding this includes the first cell beyond the picture.

        Args:
            clip_xyxy: The box, in pixels of the picture; None for the whole picture.

        Returns:
            The window, empty if the box does not touch the picture.
        """
        clip = (0.0, 0.0, *self.image_wh) if clip_xyxy is None else clip_xyxy
        ends = [
            self._span(axis, clip[axis], clip[axis + 2], 0 if clip_xyxy is None else 1)
            for axis in (0, 1)
        ]
        return ends[0][0], ends[1][0], ends[0][1], ends[1][1]

    def _span(self, axis: int, low_px: float, high_px: float, margin: int) -> tuple[int, int]:
        """Return the first cell and the end of the cells for pixels between two coordinates."""
        side = self.image_wh[axis]
        # The first and the last pixel whose centre lies between the coordinates.
        first, last = max(0, math.ceil(low_px - 0.5)), min(side - 1, math.floor(high_px - 0.5))
        if first > last:
            return 0, 0
        scale = self.cells_wh[axis] / side
        low = math.floor((first + 0.5) * scale - 0.5) - margin
        high = math.floor((last + 0.5) * scale - 0.5) + 1 + margin
        return max(0, low), min(self.geometry.cells - 1, high) + 1


def prompt_arrays(prompts: list[MaskPrompt], frame: Frame) -> tuple[Floats, Floats]:
    """Return points and boxes of prompts of one layout in pixels of the model's input.

    Args:
        prompts: B prompts, all with a box or all without, and with P points each.
        frame: Frame of the picture.

    Returns:
        Points, float64 [B, P, 2], and boxes, float64 [B, 4], or [B, 0] without boxes.
    """
    scale = np.asarray(frame.scale_xy)
    points = np.asarray([prompt.points_xy for prompt in prompts], dtype=np.float64)
    boxes = np.asarray([prompt.box_xyxy or () for prompt in prompts], dtype=np.float64)
    points = points.reshape(len(prompts), -1, 2) * scale
    return points, boxes * np.tile(scale, 2)[: boxes.shape[1]]


def tokens_of(cells: Window) -> Window:
    """Return the window of image tokens that covers a window of cells."""
    left, top, right, bottom = cells
    return (
        left // CELLS_PER_TOKEN,
        top // CELLS_PER_TOKEN,
        -(-right // CELLS_PER_TOKEN),
        -(-bottom // CELLS_PER_TOKEN),
    )


def positive_window(logits: Floats, margin: int = 1) -> Window:
    """Return the bounding box of positive logits [h, w] with a margin; empty if there are none."""
    positive = logits > 0
    columns, rows = np.flatnonzero(positive.any(axis=0)), np.flatnonzero(positive.any(axis=1))
    if not columns.size:
        return 0, 0, 0, 0
    height, width = logits.shape
    return (
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
        min(height, int(rows[-1]) + 1 + margin),
    )
