"""The deployment behind HTTP: the library's `Service`, bound to the other deployments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.handles import call, streamed
from deployments.journal import JournalClient
from deployments.logs import use_serve_log
from deployments.metrics import IngressMetrics
from deployments.prompt_cache import PromptCache
from deployments.readiness import DetectorWatch
from deployments.routes import build_api
from prelabel.labelstudio.responses import Prediction
from prelabel.observability.tracing import open_tracer
from prelabel.service import ServedModel, Service, ServicePorts
from prelabel.settings import AppSettings, Environment
from prelabel.types import DetectionQuery, Detections, SegmentationQuery, TaskPlan


@serve.ingress()
class Ingress:
    """Serves the routes of the ML backend. Waits for the model in /predict only."""

    def __init__(
        self,
        settings: AppSettings,
        environment: Environment,
        model: ServedModel,
        detector: DeploymentHandle[Any],
        postprocessor: DeploymentHandle[Any],
        prompt_store: DeploymentHandle[Any],
        journal: DeploymentHandle[Any],
    ) -> None:
        use_serve_log(settings.log_level)
        self._tracer = open_tracer(environment.traces, "ingress")
        self._detector = streamed(detector)
        self._postprocessor = streamed(postprocessor)
        ports = ServicePorts(
            detect=self._detect,
            segment=self._segment,
            postprocess=self._postprocess,
            readiness=DetectorWatch(self._detector),
            prompts=PromptCache(prompt_store),
            journal=JournalClient(journal),
        )
        self._service = Service(
            settings, environment, model, ports, tracer=self._tracer, metrics=IngressMetrics()
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Serve calls this after the constructor."""
        return build_api(self._service)

    async def _detect(self, query: DetectionQuery) -> Detections:
        found = await call(self._detector, query, self._tracer.capture())
        return cast("Detections", found)

    async def _segment(self, query: SegmentationQuery) -> Detections:
        found = await call(self._detector.segment, query, self._tracer.capture())
        return cast("Detections", found)

    async def _postprocess(self, plan: TaskPlan, detections: Sequence[Detections]) -> Prediction:
        built = await call(self._postprocessor, plan, detections, self._tracer.capture())
        return cast("Prediction", built)
