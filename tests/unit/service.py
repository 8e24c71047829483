"""The service's own routes and pipeline on a loopback port, without Ray; in the model's place a
detector that finds one box on every picture.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import uvicorn

from deployments.api import build_api
from prelabel.cards import load_card
from prelabel.fetching import FetchLimits, ImageFetcher
from prelabel.labelstudio.client import LabelStudioClient
from prelabel.labelstudio.protocol import Prediction, PredictRequest, WebhookRequest
from prelabel.labelstudio.results import Suppression, to_prediction, to_regions
from prelabel.pipeline import Entry, Predictor, Steps
from prelabel.prompt_memory import Remembered
from prelabel.settings import AppSettings, Environment
from prelabel.types import Asked, DetectionQuery, Detections, TaskPlan

VERSION = "demo-0123456789"


class Service:
    """What the routes need; the environment says what it was told of Label Studio."""

    def __init__(self, environment: Environment, model: str = "demo", boxes: int = 1) -> None:
        self.settings = AppSettings()
        self.environment = environment
        self.card = load_card(model)
        self.model_version = VERSION
        self.requests: list[PredictRequest] = []
        self._boxes = boxes
        self._client = LabelStudioClient(
            environment.label_studio_url,
            environment.label_studio_token,
            max_image_bytes=1_000_000,
            connect_timeout_s=2,
            timeout_s=5,
        )
        limits = FetchLimits(max_bytes=1_000_000, connect_timeout_s=2, total_timeout_s=5)
        self._fetcher = ImageFetcher(limits, trusted_url=environment.label_studio_url)
        steps = Steps(self._recall, self._fetch, self._detect, self._postprocess)
        self._predictor = Predictor(self.settings, VERSION, steps)

    async def predict(self, request: PredictRequest, request_id: str) -> list[Entry]:
        self.requests.append(request)
        return await self._predictor.predict(request, request_id)

    def meet(self, project: str | int | None) -> None:
        """Nothing is remembered here."""

    async def remember(self, event: WebhookRequest) -> None:
        """Nothing is remembered here."""

    async def remembered(self, project: str | None) -> dict[str, Remembered]:
        return {}

    async def forget(self, project: str) -> int:
        return 0

    async def _recall(self, project: str) -> Asked:
        return Asked()

    async def _fetch(self, uri: str, task_id: int | None) -> bytes:
        found = self._client.locate(uri, task_id)
        if isinstance(found, bytes):
            return found
        return await asyncio.to_thread(self._fetcher.fetch, found.url, found.credentials)

    async def _detect(self, query: DetectionQuery) -> Detections:
        boxes = np.array([[1, 1, 40, 40]] * self._boxes, dtype=np.float32).reshape(-1, 4)
        scores = np.full(self._boxes, 0.9, dtype=np.float32)
        return Detections(boxes, scores, np.zeros(self._boxes, dtype=np.int64), (64, 64))

    async def _postprocess(self, plan: TaskPlan, found: Sequence[Detections]) -> Prediction:
        regions = [
            region
            for look, detections in zip(plan.looks, found, strict=True)
            for region in to_regions(look, detections, Suppression(0.5, False, 10))
        ]
        return to_prediction(regions, VERSION, plan.echo)


@contextmanager
def running(service: Service) -> Iterator[str]:
    """Its address, until the block ends."""
    config = uvicorn.Config(build_api(service), port=0, log_level="error", lifespan="off")
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
