"""Box geometry, named by the pair of formats that each function converts. Boxes are [N, 4]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prelabel.types import Floats, Ints

_COMPARED_AT_ONCE = 64  # boxes, with all that are worse


def cxcywh_to_xyxy(boxes_cxcywh: Floats) -> Floats:
    """Centre and size to corners, in the same unit."""
    centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def norm_to_px(boxes_norm: Floats, image_wh: tuple[int, int]) -> Floats:
    """0..1 of the picture to its pixels."""
    return boxes_norm * np.array(image_wh * 2, dtype=boxes_norm.dtype)


def px_to_pct(boxes_px: Floats, image_wh: tuple[int, int]) -> Floats:
    """Pixels to percent of the picture."""
    return boxes_px / np.array(image_wh * 2, dtype=boxes_px.dtype) * 100


def pct_to_px(boxes_pct: Floats, image_wh: tuple[int, int]) -> Floats:
    """Percent of the picture to its pixels."""
    return boxes_pct * np.array(image_wh * 2, dtype=boxes_pct.dtype) / 100


def clip_xyxy(boxes_xyxy: Floats, image_wh: tuple[int, int]) -> Floats:
    """Boxes cut at the picture's edges, in pixels."""
    limit = np.array(image_wh * 2, dtype=boxes_xyxy.dtype)
    clipped: Floats = np.minimum(np.maximum(boxes_xyxy, 0), limit)
    return clipped


def area_xyxy(boxes_xyxy: Floats) -> Floats:
    """Areas [N]; a box of negative width or height has none."""
    wh = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    area: Floats = wh[:, 0] * wh[:, 1]
    return area


def iou_xyxy(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Intersection over union of every pair, [A, B]; 0 where both boxes are empty."""
    # By coordinates: along an axis of two, NumPy takes four times as long.
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
    """Greedy suppression of boxes that come best first: at most `limit` indices, in order.

    A box goes if a better one that stays, and is its rival, overlaps it by more than the threshold.
    rivals: of which pairs that matters, [A, B] for the boxes of two slices.
    """
    alive = np.ones(len(boxes_xyxy), dtype=bool)
    kept: list[int] = []
    # Many at a time, for with few boxes the calls take the time, and not all, for the memory.
    for start in range(0, len(boxes_xyxy), _COMPARED_AT_ONCE):
        block, rest = slice(start, start + _COMPARED_AT_ONCE), slice(start, None)
        overlap = iou_xyxy(boxes_xyxy[block], boxes_xyxy[rest]) > iou_threshold
        overlap &= rivals(block, rest)
        for i, overlapped in enumerate(overlap, start):
            if alive[i] and len(kept) < limit:
                kept.append(i)
                alive[rest] &= ~overlapped  # of those before, and itself, nobody asks again
        if len(kept) == limit:
            break
    return np.array(kept, dtype=np.int64)


def nms(boxes_xyxy: Floats, scores: Floats, groups: Ints, iou_threshold: float, limit: int) -> Ints:
    """Greedy non-maximum suppression within groups: at most `limit` indices, best score first.

    A box goes if a better one of its group overlaps it by more than `iou_threshold`.
    """
    order = np.argsort(-scores, kind="stable")
    group = groups[order]

    def of_a_group(some: slice, others: slice) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = group[some, None] == group[None, others]
        return same

    return order[best_of_rivals(boxes_xyxy[order], iou_threshold, of_a_group, limit)]
