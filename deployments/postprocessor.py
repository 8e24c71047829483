"""Detections of all pictures of a task -> one Label Studio prediction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from deployments.logs import use_serve_log
from prelabel.labelstudio.predictions import Suppression, to_prediction, to_regions
from prelabel.labelstudio.responses import Prediction
from prelabel.observability.spans import TraceSettings
from prelabel.observability.tracing import open_tracer
from prelabel.settings import DetectionSettings
from prelabel.types import Detections, TaskPlan


class Postprocessor:
    """Maps, suppresses and limits boxes. Sees no tensor and no task."""

    def __init__(
        self,
        settings: DetectionSettings,
        model_version: str,
        log_level: str,
        traces: TraceSettings | None = None,
    ) -> None:
        use_serve_log(log_level)
        self._tracer = open_tracer(traces, "postprocessor")
        self._model_version = model_version
        self._suppression = Suppression(
            iou_threshold=settings.nms_iou_threshold,
            class_agnostic=settings.nms_class_agnostic,
            max_boxes=settings.max_boxes,
            min_box_px=settings.min_box_px,
        )

    async def __call__(
        self, plan: TaskPlan, found: Sequence[Detections], traceparent: str = ""
    ) -> AsyncIterator[Prediction]:
        """Yields one. plan.looks[i] says what was looked for where found[i] was found.

        Waits for nothing: asynchronous, for Serve runs others in a thread, which takes longer than
        what is done here.
        """
        with self._tracer.span("regions", traceparent):
            regions = [
                region
                for look, detections in zip(plan.looks, found, strict=True)
                for region in to_regions(look, detections, self._suppression)
            ]
            yield to_prediction(regions, self._model_version, plan.echo, plan.matches)
