"""Masks for tests: random and analytic logits, their exact interpolation, and drawn rings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional

from prelabel.types import Floats, MaskLogits, Masks

Distance = Callable[[Floats, Floats], Floats]  # of x and y in pixels; positive inside of the object


def soft_noise(random: np.random.Generator, width: int, height: int, knots: int) -> Floats:
    """Logits [height, width] with smooth blobs; the fewer knots, the larger the blobs."""
    noise = random.standard_normal((max(knots, 2), max(knots, 2))).astype(np.float32)
    smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth).astype(np.float16)


def of_whole_view(
    logits: Floats, image_wh: tuple[int, int], cells_wh: tuple[float, float] | None = None
) -> MaskLogits:
    """The mask of a grid over the whole picture."""
    height, width = logits.shape
    return MaskLogits(logits, (0, 0), cells_wh or (width, height), (0, 0, *image_wh), None, 0.9)


def analytic(
    distance: Distance, cells_wh: tuple[float, float], image_wh: tuple[int, int]
) -> MaskLogits:
    """The mask whose logits are the distance from the outline, in pixels, at each cell."""
    columns, rows = (np.arange(math.ceil(cells)) + 0.5 for cells in cells_wh)
    x, y = columns * image_wh[0] / cells_wh[0], rows * image_wh[1] / cells_wh[1]
    logits = np.clip(distance(x[None, :], y[:, None]), -60_000, 60_000).astype(np.float16)
    return of_whole_view(logits, image_wh, cells_wh)


def disc(x: float, y: float, radius: float) -> Distance:
    return lambda xs, ys: radius - np.hypot(xs - x, ys - y)


def rectangle(left: float, top: float, right: float, bottom: float) -> Distance:
    return lambda xs, ys: np.minimum(
        np.minimum(xs - left, right - xs), np.minimum(ys - top, bottom - ys)
    )


def blob(random: np.random.Generator, x: float, y: float, radius: float) -> Distance:
    """A round object with some bays."""
    first, second = random.uniform(0, 2 * np.pi, 2)

    def distance(xs: Floats, ys: Floats) -> Floats:
        angle = np.arctan2(ys - y, xs - x)
        bays = 0.8 + 0.12 * np.sin(3 * angle + first) + 0.07 * np.sin(5 * angle + second)
        return np.asarray(radius * bays - np.hypot(xs - x, ys - y))

    return distance


def random_mask(random: np.random.Generator) -> tuple[MaskLogits, tuple[int, int]]:
    """A mask of any kind of grid, crop, view and clip box, and the size of its picture."""
    image_w, image_h = (int(side) for side in random.integers(20, 400, 2))
    cells_w, cells_h = (float(cells) for cells in random.integers(3, 40, 2))
    if random.random() < 0.5:
        cells_h -= random.uniform(0.01, 0.99)
    left, top = int(random.integers(0, image_w - 9)), int(random.integers(0, image_h - 9))
    view = (0, 0, image_w, image_h)
    if random.random() < 0.5:
        right, bottom = random.integers((left + 8, top + 8), (image_w + 9, image_h + 9)).tolist()
        view = (left, top, right, bottom)
    columns, rows = int(np.ceil(cells_w)), int(np.ceil(cells_h))
    grid = soft_noise(random, columns, rows, int(random.integers(2, 9)))
    mask = MaskLogits(grid, (0, 0), (cells_w, cells_h), view, None, 0.9)
    if random.random() < 0.5:
        mask = _cropped(random, mask)
    if random.random() < 0.5:
        x = np.sort(random.uniform(-20, image_w + 20, 2))
        y = np.sort(random.uniform(-20, image_h + 20, 2))
        mask = replace(mask, clip_xyxy=(x[0], y[0], x[1], y[1]))
    return mask, (image_w, image_h)


def _cropped(random: np.random.Generator, mask: MaskLogits) -> MaskLogits:
    """A part of the grid whose outermost cells are negative, but for those of the grid."""
    rows, columns = mask.logits.shape
    left, top = int(random.integers(0, columns)), int(random.integers(0, rows))
    right, bottom = int(random.integers(left, columns)) + 1, int(random.integers(top, rows)) + 1
    logits = mask.logits.copy()
    if left:
        logits[:, left] = -1
    if top:
        logits[top] = -1
    if right < columns:
        logits[:, right - 1] = -1
    if bottom < rows:
        logits[bottom - 1] = -1
    return replace(mask, logits=logits[top:bottom, left:right], origin_xy=(left, top))


def interpolated(mask: MaskLogits, image_wh: tuple[int, int]) -> Floats:
    """The logits of all pixels by torch in float64; -1e30 outside of view, clip box and crop."""
    cells = [math.ceil(number) for number in mask.cells_wh]
    height, width = mask.logits.shape
    column, row = mask.origin_xy
    grid = np.full((max(cells[1], row + height), max(cells[0], column + width)), -1e30)
    grid[row : row + height, column : column + width] = mask.logits
    # A row and a column more change nothing, and keep torch from rounding its size down.
    padded = np.pad(grid, ((0, 1), (0, 1)), mode="edge")
    left, top, right, bottom = mask.view_xyxy
    scale = ((bottom - top) / mask.cells_wh[1], (right - left) / mask.cells_wh[0])
    stretched: Any = functional.interpolate(
        torch.tensor(padded)[None, None],
        scale_factor=scale,
        mode="bilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )
    view = stretched[0, 0, : bottom - top, : right - left].numpy()
    assert view.shape == (bottom - top, right - left)
    picture = np.full((image_wh[1], image_wh[0]), -1e30)
    shown_right, shown_bottom = min(right, image_wh[0]), min(bottom, image_wh[1])
    picture[top:shown_bottom, left:shown_right] = view[: shown_bottom - top, : shown_right - left]
    if mask.clip_xyxy is not None:
        x, y = np.arange(image_wh[0]) + 0.5, np.arange(image_wh[1]) + 0.5
        x0, y0, x1, y1 = mask.clip_xyxy
        picture[(y < y0) | (y > y1)] = -1e30
        picture[:, (x < x0) | (x > x1)] = -1e30
    return picture


def drawn(rings: Iterable[Floats], image_wh: tuple[int, int]) -> Masks:
    """The pixels whose centres lie inside of a ring, by the even-odd rule. bool [H, W]."""
    width, height = image_wh
    picture = np.zeros((height, width), dtype=bool)
    for ring in rings:
        flips = np.zeros((height, width + 1), dtype=np.uint8)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            low, high = (math.ceil(y - 0.5) for y in sorted((y0, y1)))
            rows = np.arange(max(low, 0), min(high, height))
            if len(rows):
                crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
                flips[rows, columns] ^= 1
        picture |= np.bitwise_xor.accumulate(flips, axis=1)[:, :width].astype(bool)
    return picture


def mask_iou(a: Masks, b: Masks) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))
