"""The service's HTTP application around all its parts but the model, without Ray.

In place of the detector stands one that decodes the picture and finds each phrase everywhere.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import uvicorn

from deployments.readiness import UP, Readiness
from deployments.routes import build_api
from prelabel.checkpoints.cards import load_card
from prelabel.errors import PromptMemoryError
from prelabel.images.decode import decode_image
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.labelstudio.image_locator import LabelStudioClient
from prelabel.labelstudio.predictions import Suppression, to_prediction, to_regions
from prelabel.labelstudio.protocol import PredictRequest, WebhookRequest, project_key
from prelabel.labelstudio.responses import Prediction
from prelabel.net.egress import Egress
from prelabel.observability.journal import Fault, Journal, Report
from prelabel.phrases.vocabulary import shipped_vocabulary
from prelabel.pipeline import Entry, PipelinePorts, Predictor
from prelabel.prompts.planner import asked_by_submit
from prelabel.prompts.store import PromptBook, StoredPrompt, open_memory
from prelabel.settings.application import AppSettings, Environment
from prelabel.types import DetectionQuery, Detections, ProjectPrompts, PromptRequest, TaskPlan
from tests.support.http_server import Network

VERSION = "demo-0123456789"
LIMITS = FetchLimits(max_bytes=1_000_000, connect_timeout_s=2, total_timeout_s=5)


class LocalService:
    """What the ingress is, in one process.

    network: in place of the real one, where it is given. blind: it finds nothing.
    """

    def __init__(
        self, environment: Environment, network: Network | None = None, model: str = "demo"
    ) -> None:
        self.settings = AppSettings(prompts_file="")
        self.environment = environment
        self.card = load_card(model)
        self.model_version = VERSION
        self.vocabulary = shipped_vocabulary()
        self.requests: list[PredictRequest] = []
        self.blind = False
        self.state = UP
        self._journal = Journal()
        self._book = PromptBook(open_memory(self.settings, environment))
        egress = Egress.of(environment.trust, environment.proxies)
        self._label_studio = LabelStudioClient(
            environment.label_studio_url,
            environment.label_studio_token,
            max_image_bytes=LIMITS.max_bytes,
            connect_timeout_s=LIMITS.connect_timeout_s,
            timeout_s=LIMITS.total_timeout_s,
            egress=egress,
        )
        self._fetcher = ImageFetcher(
            LIMITS,
            allowed_hosts=self.settings.allowed_image_hosts,
            trusted_url=environment.label_studio_url,
            tls=egress.tls,
            proxies=egress.proxies,
            **({"resolve": network.resolve, "connect": network.connect} if network else {}),  # type: ignore[arg-type]
        )
        steps = PipelinePorts(self._recall, self._fetch, self._detect, self._postprocess, self.note)
        self._predictor = Predictor(self.settings, self.model_version, steps)
        self.app: Any = build_api(self)

    async def readiness(self) -> Readiness:
        return self.state

    async def predict(
        self, request: PredictRequest, request_id: str, _traceparent: str = ""
    ) -> list[Entry]:
        self.requests.append(request)
        return await self._predictor.predict(request, request_id)

    def note(self, report: Report) -> None:
        self._journal.note(report)

    async def metrics(self) -> dict[str, float]:
        return self._journal.metrics()

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        return self._journal.errors(project, limit)

    async def meet(self, project: str | int | None, asked: PromptRequest) -> None:
        if (key := project_key(project)) is not None:
            with suppress(PromptMemoryError):
                self._book.meet(key, asked)

    async def remember(self, event: WebhookRequest) -> None:
        submitted_at = event.annotation.updated_at if event.annotation else None
        asked = asked_by_submit(event, self.settings)
        if event.project_key is not None and submitted_at is not None and asked != PromptRequest():
            self._book.remember(event.project_key, submitted_at, asked)

    async def remembered(self, project: str | None) -> dict[str, StoredPrompt]:
        return self._book.show(project)

    async def forget(self, project: str) -> int:
        return self._book.forget(project)

    async def _recall(self, project: str) -> ProjectPrompts:
        return self._book.recall(project)

    async def _fetch(self, uri: str, task_id: int | None) -> bytes:
        def fetch() -> bytes:
            found = self._label_studio.locate(uri, task_id)
            if isinstance(found, bytes):
                return found
            return self._fetcher.fetch(found.url, found.credentials, found.hint)

        return await asyncio.to_thread(fetch)

    async def _detect(self, query: DetectionQuery) -> Detections:
        height, width, _ = decode_image(query.image, max_pixels=1_000_000).shape
        count = 0 if self.blind else len(query.phrases)
        return Detections(
            np.tile(np.array([0, 0, width, height], np.float32), (count, 1)),
            np.full(count, 0.9, np.float32),
            np.arange(count),
            (width, height),
        )

    async def _postprocess(self, plan: TaskPlan, found: Sequence[Detections]) -> Prediction:
        regions = [
            region
            for look, detections in zip(plan.looks, found, strict=True)
            for region in to_regions(look, detections, Suppression(0.7, False, 300))
        ]
        return to_prediction(regions, self.model_version, plan.echo, plan.matches)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request over ASGI; what the application raises becomes its answer of 500."""

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(exchange())


@contextmanager
def running(service: LocalService) -> Iterator[str]:
    """Its address on loopback, until the block ends."""
    config = uvicorn.Config(service.app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    [listener] = server.servers[0].sockets
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
