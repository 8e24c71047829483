"""Distances by which a number format moves boxes: two engines on the same scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.measurement import percentile
from prelabel.boxes import iou_xyxy
from prelabel.engines.base import AnyEngine
from prelabel.types import Detections
from training.evaluate import DEFAULT_THRESHOLDS, answered_boxes, detect, tally
from training.scenes import Scene

_SAME_OBJECT = 0.5  # IoU from which two boxes are of one object


@dataclass(slots=True)
class Rounding:
    """Counts of what happened to the boxes of an exact engine.

    Attributes:
        boxes: Boxes of the exact engine at the default thresholds.
        lost: Boxes without a counterpart.
        added: Boxes of the other engine without a counterpart.
        relabelled: Boxes whose counterpart has another label.
        moved_px: How far the furthest edge of each counterpart is off, pixels.
    """

    boxes: int = 0
    lost: int = 0
    added: int = 0
    relabelled: int = 0
    moved_px: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return shares of the boxes, and the mean and the 99th percentile of the distances."""
        moved = self.moved_px or [0.0]
        return {
            "lost": self.lost / max(1, self.boxes),
            "added": self.added / max(1, self.boxes),
            "relabelled": self.relabelled / max(1, self.boxes),
            "moved_mean_px": float(np.mean(moved)),
            "moved_p99_px": percentile(moved, 99),
        }

    def count(self, exact: Detections, other: Detections) -> None:
        """Match the boxes of one picture by their place."""
        self.boxes += len(exact.scores)
        if not len(exact.scores) or not len(other.scores):
            self.lost += len(exact.scores)
            self.added += len(other.scores)
            return
        overlaps = iou_xyxy(exact.boxes_xyxy, other.boxes_xyxy)
        matched = set()
        for row, column in enumerate(overlaps.argmax(axis=1).tolist()):
            if overlaps[row, column] < _SAME_OBJECT:
                self.lost += 1
                continue
            matched.add(column)
            self.relabelled += bool(exact.phrase_index[row] != other.phrase_index[column])
            apart = np.abs(exact.boxes_xyxy[row] - other.boxes_xyxy[column])
            self.moved_px.append(float(apart.max()))
        self.added += len(other.scores) - len(matched)


def rounding(exact: AnyEngine, other: AnyEngine, scenes: Sequence[Scene]) -> Rounding:
    """Compare the boxes of two engines at the default thresholds."""
    counts = Rounding()
    for scene in scenes:
        counts.count(
            answered_boxes(detect(exact, scene), scene, DEFAULT_THRESHOLDS),
            answered_boxes(detect(other, scene), scene, DEFAULT_THRESHOLDS),
        )
    return counts


def rounding_figures(
    exact: AnyEngine, other: AnyEngine, scenes: Sequence[Scene]
) -> dict[str, float]:
    """Return the figures of `Rounding`, and by how much the other engine's AP50 is higher."""
    gained = tally(other, scenes).ap50 - tally(exact, scenes).ap50
    return rounding(exact, other, scenes).figures() | {"ap50_gained": gained}
