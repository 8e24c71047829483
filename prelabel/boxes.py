"""Geometry of boxes [N, 4]. Each conversion is named by the two formats that it converts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prelabel.types import Floats, Ints

# Boxes compared in one step with all worse ones. With few boxes the calls into NumPy take most of
# the time; the overlaps of all pairs at once would take too much memory.
_BLOCK = 64


def cxcywh_to_xyxy(boxes_cxcywh: Floats) -> Floats:
    """Convert centre and size to corners, in the same unit."""
    centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def norm_to_px(boxes_norm: Floats, image_wh: tuple[int, int]) -> Floats:
    """Convert 0..1 of the picture to its pixels."""
    return boxes_norm * np.array(image_wh * 2, dtype=boxes_norm.dtype)


def px_to_pct(boxes_px: Floats, image_wh: tuple[int, int]) -> Floats:
    """Convert pixels to percent of the picture."""
    return boxes_px / np.array(image_wh * 2, dtype=boxes_px.dtype) * 100


def pct_to_px(boxes_pct: Floats, image_wh: tuple[int, int]) -> Floats:
    """Convert percent of the picture to its pixels."""
    return boxes_pct * np.array(image_wh * 2, dtype=boxes_pct.dtype) / 100


def clip_xyxy(boxes_xyxy: Floats, image_wh: tuple[int, int]) -> Floats:
    """Cut boxes in pixels at the edges of the picture."""
    limit = np.array(image_wh * 2, dtype=boxes_xyxy.dtype)
    clipped: Floats = np.minimum(np.maximum(boxes_xyxy, 0), limit)
    return clipped


def area_xyxy(boxes_xyxy: Floats) -> Floats:
    """Return the areas [N]; the area of a box with negative width or height is 0."""
    wh = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    area: Floats = wh[:, 0] * wh[:, 1]
    return area


def iou_xyxy(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Return the intersection over union of every pair, [A, B]; 0 where both boxes are empty."""
    # Each coordinate alone: operations along an axis of length two take four times as long.
    left, top, right, bottom = a_xyxy.T[:, :, None]
    b_left, b_top, b_right, b_bottom = np.ascontiguousarray(b_xyxy.T)
    width = np.maximum(np.minimum(right, b_right) - np.maximum(left, b_left), 0)
    height = np.maximum(np.minimum(bottom, b_bottom) - np.maximum(top, b_top), 0)
    intersection: Floats = width * height
    union = area_xyxy(a_xyxy)[:, None] + area_xyxy(b_xyxy)[None, :] - intersection
    iou: Floats = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return iou


def best_of_rivals(
    boxes_xyxy: Floats,
    iou_threshold: float,
    rivals: Callable[[slice, slice], NDArray[np.bool_]],
    limit: int,
) -> Ints:
    """Suppress boxes greedily. Return the indices of the boxes that stay, in order.

    A box is suppressed by a better box that stays, is its rival and overlaps it by more than the
    threshold.

    Args:
        boxes_xyxy: [N, 4], best box first.
        iou_threshold: Greatest intersection over union that does not suppress a box.
        rivals: Returns for the boxes of two slices which pairs compete, [A, B].
        limit: Most indices to return.
    """
    alive = np.ones(len(boxes_xyxy), dtype=bool)
    kept: list[int] = []
    for start in range(0, len(boxes_xyxy), _BLOCK):
        block, rest = slice(start, start + _BLOCK), slice(start, None)
        overlap = iou_xyxy(boxes_xyxy[block], boxes_xyxy[rest]) > iou_threshold
        overlap &= rivals(block, rest)
        for i, overlapped in enumerate(overlap, start):
            if alive[i] and len(kept) < limit:
                kept.append(i)
                alive[rest] &= ~overlapped  # alive[i] is set, too, but not read again
        if len(kept) == limit:
            break
    return np.array(kept, dtype=np.int64)


def nms(boxes_xyxy: Floats, scores: Floats, groups: Ints, iou_threshold: float, limit: int) -> Ints:
    """Return at most `limit` indices after non-maximum suppression in groups, best score first.

    A box is suppressed by a better one of its group that overlaps it by more than
    `iou_threshold`.
    """
    order = np.argsort(-scores, kind="stable")
    group = groups[order]

    def of_a_group(block: slice, rest: slice) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = group[block, None] == group[None, rest]
        return same

    return order[best_of_rivals(boxes_xyxy[order], iou_threshold, of_a_group, limit)]
