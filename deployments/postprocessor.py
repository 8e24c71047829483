"""Detections of all pictures of a task -> one Label Studio prediction."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.logs import use_serve_log
from prelabel.labelstudio.protocol import Prediction
from prelabel.labelstudio.results import Suppression, to_prediction, to_regions
from prelabel.settings import AppSettings
from prelabel.types import Detections, LookPlan


class Postprocessor:
    """Maps, suppresses and limits boxes. Sees no tensor and no task."""

    def __init__(self, settings: AppSettings, model_version: str) -> None:
        use_serve_log(settings.log_level)
        self._model_version = model_version
        self._suppression = Suppression(
            iou_threshold=settings.nms_iou_threshold,
            class_agnostic=settings.nms_class_agnostic,
            max_boxes=settings.max_boxes,
        )

    def __call__(self, plans: Sequence[LookPlan], found: Sequence[Detections]) -> Prediction:
        """plans[i] says what was looked for where found[i] was found."""
        regions = [
            region
            for plan, detections in zip(plans, found, strict=True)
            for region in to_regions(plan, detections, self._suppression)
        ]
        return to_prediction(regions, self._model_version)
