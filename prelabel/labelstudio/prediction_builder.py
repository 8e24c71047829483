"""Builds the prediction of one task from the detections of its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from prelabel.detection.review import expected_corrections
from prelabel.detection.suppression import Suppression
from prelabel.labelstudio.mask_regions import MaskPen
from prelabel.labelstudio.predictions import to_prediction, to_regions
from prelabel.labelstudio.responses import Prediction
from prelabel.settings import MaskSettings
from prelabel.types import Detections, TaskPlan


class PredictionBuilder:
    """Suppresses overlapping boxes, limits their number, and maps them to regions.

    Args:
        suppression: Limits on boxes.
        masks: Settings of the masks of a task.
        model_version: Version that every prediction carries.
    """

    def __init__(self, suppression: Suppression, masks: MaskSettings, model_version: str) -> None:
        self._suppression = suppression
        self._masks = masks
        self._model_version = model_version

    def build(self, plan: TaskPlan, detections: Sequence[Detections]) -> Prediction:
        """Return the prediction; `detections[i]` belongs to `plan.looks[i]`."""
        pen = MaskPen(self._masks)
        regions = [
            region
            for look, found in zip(plan.looks, detections, strict=True)
            for region in to_regions(look, found, self._suppression, pen)
        ]
        notes = (*plan.notes, *pen.notes())
        prediction = to_prediction(regions, self._model_version, plan.echo, plan.matches, notes)
        if detections and all(found.evidence is not None for found in detections):
            corrections = sum(
                expected_corrections(look, found, self._suppression)
                for look, found in zip(plan.looks, detections, strict=True)
            )
            prediction["score"] = 1 / (1 + corrections)
        if hashes := [found.picture_hash for found in detections if found.picture_hash is not None]:
            prediction["picture_hashes"] = [f"{value:016x}" for value in hashes]
        return prediction
