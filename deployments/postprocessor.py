"""The deployment that maps detections to Label Studio's predictions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from deployments.logs import use_serve_log
from prelabel.detection.suppression import Suppression
from prelabel.labelstudio.prediction_builder import PredictionBuilder
from prelabel.labelstudio.responses import Prediction
from prelabel.observability.request_context import RequestContext
from prelabel.observability.spans import TraceSettings
from prelabel.observability.tracing import open_tracer
from prelabel.settings import AppSettings
from prelabel.types import Detections, TaskPlan


class Postprocessor:
    """Suppresses and limits the boxes of a task and maps them to regions. Sees no tensor."""

    def __init__(
        self,
        settings: AppSettings,
        model_version: str,
        traces: TraceSettings | None = None,
    ) -> None:
        use_serve_log(settings.log_level)
        self._tracer = open_tracer(traces, "postprocessor")
        self._builder = PredictionBuilder(
            Suppression.of(settings.detection), settings.masks, model_version
        )

    async def __call__(
        self, plan: TaskPlan, detections: Sequence[Detections], context: RequestContext
    ) -> AsyncIterator[Prediction]:
        """Yield the one prediction of a task; `detections[i]` belongs to `plan.looks[i]`.

        Async because Serve would run a sync method in a thread pool, which costs 2 ms; boxes take
        0.6 ms, and a mask of 12 megapixels 2 ms. A generator because of Serve's router;
        `deployments.handles.streamed` explains it.
        """
        with self._tracer.restore(context), self._tracer.span("regions"):
            prediction = self._builder.build(plan, detections)
        yield prediction
