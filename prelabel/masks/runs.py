"""Masks of a whole picture as runs of pixels, and the algebra of such sets.

Runs are int64 [N, 2]: start and stop of each run as flat row-major indices of pixels,
y * width + x, the stop exclusive. They are sorted, none is empty, and no two touch: a run may go on
in the next row. A mask of a picture of 12 megapixels takes some kB as runs and 12 MB as a bitmap.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from prelabel.types import Ints, Masks

NO_RUNS: Ints = np.zeros((0, 2), dtype=np.int64)


def runs_of_mask(mask: Masks, origin_xy: tuple[int, int], image_wh: tuple[int, int]) -> Ints:
    """Return the runs of a part of a picture.

    Args:
        mask: bool [h, w].
        origin_xy: Column and row of the mask's first pixel in the picture.
        image_wh: Width and height of the picture; the mask lies inside of it.
    """
    height, width = mask.shape
    ended = np.zeros((height, width + 1), dtype=bool)  # the column behind each row ends its runs
    ended[:, :width] = mask
    flat = ended.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    row, column = np.divmod(changes, width + 1)
    edges = (row + origin_xy[1]) * image_wh[0] + column + origin_xy[0]
    return joined(edges.reshape(-1, 2))


def mask_of_runs(
    runs: Ints, image_wh: tuple[int, int], crop_xyxy: tuple[int, int, int, int] | None = None
) -> Masks:
    """Return the bitmap of a picture's mask, bool [H, W].

    Args:
        runs: [N, 2].
        image_wh: Width and height of the picture.
        crop_xyxy: The part of the picture to return, in whole pixels; None for all of it.
    """
    width, height = image_wh
    if crop_xyxy is not None:
        left, top, right, bottom = crop_xyxy
        row, start, stop = rows_of_runs(runs, width)
        start, stop = np.clip(start, left, right) - left, np.clip(stop, left, right) - left
        inside = (row >= top) & (row < bottom) & (start < stop)
        base = (row[inside] - top) * (right - left)
        runs = np.stack((base + start[inside], base + stop[inside]), axis=1)
        width, height = right - left, bottom - top
    flat = np.zeros(width * height, dtype=bool)
    for first, last in runs.tolist():
        flat[first:last] = True
    return flat.reshape(height, width)


def rows_of_runs(runs: Ints, width: int) -> tuple[Ints, Ints, Ints]:
    """Cut runs at the ends of rows. Return row, first column and stop column of each piece, [M]."""
    start, stop = runs[:, 0], runs[:, 1]
    row = start // width
    pieces = (stop - 1) // width - row + 1
    if pieces.sum() > len(runs):
        behind = np.cumsum(pieces)
        row = np.repeat(row, pieces) + np.arange(behind[-1]) - np.repeat(behind - pieces, pieces)
        start = np.maximum(np.repeat(start, pieces), row * width)
        stop = np.minimum(np.repeat(stop, pieces), (row + 1) * width)
    return row, start - row * width, stop - row * width


def joined(runs: Ints) -> Ints:
    """Make one run of runs that touch. The runs are sorted and do not overlap."""
    if len(runs) < 2:
        return runs
    apart = runs[1:, 0] > runs[:-1, 1]
    if apart.all():
        return runs
    starts = runs[np.concatenate(([True], apart)), 0]
    stops = runs[np.concatenate((apart, [True])), 1]
    return np.stack((starts, stops), axis=1)


def area(runs: Ints) -> int:
    """Return the number of pixels."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def bounds(runs: Ints, width: int) -> tuple[int, int, int, int] | None:
    """Return the smallest box around the mask, xyxy in whole pixels; None for the empty mask."""
    if not len(runs):
        return None
    row, start, stop = rows_of_runs(runs, width)
    return int(start.min()), int(row[0]), int(stop.max()), int(row[-1]) + 1


def subtract(a: Ints, b: Ints) -> Ints:
    """Return the runs of the pixels that are in `a` and not in `b`."""
    return _combined(a, b, _ONLY_A)


def intersect(a: Ints, b: Ints) -> Ints:
    """Return the runs of the pixels that are in both."""
    return _combined(a, b, _BOTH)


def unite(a: Ints, b: Ints) -> Ints:
    """Return the runs of the pixels that are in `a`, in `b`, or in both."""
    return _combined(a, b, _ANY)


def without_overlaps(masks: Iterable[Ints]) -> list[Ints]:
    """Give each pixel to the first mask that has it.

    Args:
        masks: Runs of masks of one picture, best first.

    Returns:
        The masks in their order without the pixels of earlier ones; some may be empty.
    """
    taken, disjoint = NO_RUNS, []
    for runs in masks:
        if not len(runs):
            disjoint.append(runs)
            continue
        # Only the taken runs between a mask's first and last pixel can change; with many masks in
        # a picture that is a small part of them.
        first = int(np.searchsorted(taken[:, 1], runs[0, 0]))
        stop = int(np.searchsorted(taken[:, 0], runs[-1, 1], side="right"))
        near = taken[first:stop]
        disjoint.append(subtract(runs, near))
        taken = np.concatenate((taken[:first], unite(near, runs), taken[stop:]))
    return disjoint


# Indexed by "in a" and "in b".
_ONLY_A = np.array([[False, False], [True, False]])
_BOTH = np.array([[False, False], [False, True]])
_ANY = np.array([[False, True], [True, True]])


def _combined(a: Ints, b: Ints, kept: NDArray[np.bool_]) -> Ints:
    edges = np.unique(np.concatenate((a.ravel(), b.ravel())))
    # Behind an odd number of its edges, a position is inside of a set.
    in_a = np.searchsorted(a.ravel(), edges, side="right") & 1
    in_b = np.searchsorted(b.ravel(), edges, side="right") & 1
    changes = np.flatnonzero(np.diff(kept[in_a, in_b], prepend=False))
    return edges[changes].reshape(-1, 2)
