"""The real `Service` behind its real routes in one process, without Ray.

A detector that finds each phrase on the whole picture takes the place of the model; the prompts
and the journal are the library's own, called without a process in between.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import uvicorn

from deployments.routes import build_api
from prelabel.checkpoints.cards import load_card
from prelabel.detection.suppression import Suppression
from prelabel.errors import PrelabelError
from prelabel.images.decode import decode_image
from prelabel.images.perceptual_hash import perceptual_hash
from prelabel.labelstudio.prediction_builder import PredictionBuilder
from prelabel.labelstudio.protocol import PredictRequest
from prelabel.labelstudio.responses import Prediction
from prelabel.observability.journal import Fault, Journal, Report
from prelabel.phrases.vocabulary import shipped_vocabulary
from prelabel.pipeline import Entry
from prelabel.prompts.repository import AsyncPromptRepository
from prelabel.prompts.storage import PromptStorage, ReopeningStorage, open_storage
from prelabel.service import Readiness, ServedModel, Service, ServicePorts
from prelabel.settings import AppSettings, Environment, ImageSettings, PromptSettings
from prelabel.types import (
    DetectionQuery,
    Detections,
    MaskLogits,
    SegmentationQuery,
    TaskPlan,
)
from tests.support.http_server import Network

VERSION = "demo-0123456789"
UP = Readiness("UP", ready=True)


class LocalJournal:
    """A journal in the same process. Implements `JournalPort`."""

    def __init__(self) -> None:
        self.journal = Journal()

    async def add(self, reports: Sequence[Report]) -> None:
        for report in reports:
            self.journal.add(report)

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        return self.journal.errors(project, limit)

    async def metrics(self) -> dict[str, float]:
        return self.journal.metrics()


class RecordingService(Service):
    """A `Service` that keeps the predict requests it was asked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requests: list[PredictRequest] = []

    async def predict(self, request: PredictRequest) -> list[Entry]:
        self.requests.append(request)
        return await super().predict(request)


class LocalService:
    """A service with its ASGI application.

    Attributes:
        state: Readiness that /health answers.
        finds_nothing: The detector finds no box.
        failure: Raised by the detector.
        open_storage: Opens the storage of prompts, at the first use.

    Args:
        environment: Variables of the environment.
        network: Resolves and connects in place of the real network.
        model: Name of the card.
        settings: Settings of the application; prompts stay in memory by default.
        warning: A sentence about the card.
    """

    def __init__(
        self,
        environment: Environment,
        network: Network | None = None,
        model: str = "demo",
        settings: AppSettings | None = None,
        warning: str | None = None,
    ) -> None:
        settings = settings or AppSettings(
            prompts=PromptSettings(file=""),
            images=ImageSettings(max_bytes=1_000_000, connect_timeout_s=2, fetch_timeout_s=5),
        )
        self.finds_nothing = False
        self.failure: PrelabelError | None = None
        self.state = UP
        self.journal = LocalJournal()
        builder = PredictionBuilder(Suppression(0.7, False, 300), settings.masks, VERSION)

        async def postprocess(plan: TaskPlan, detections: Sequence[Detections]) -> Prediction:
            return builder.build(plan, detections)

        self.open_storage: Callable[[], PromptStorage] = lambda: open_storage(
            settings.prompts, environment
        )
        self.prompts = AsyncPromptRepository(ReopeningStorage(lambda: self.open_storage()))
        ports = ServicePorts(
            detect=self._detect,
            segment=self._segment,
            postprocess=postprocess,
            readiness=self.readiness,
            prompts=self.prompts,
            journal=self.journal,
        )
        card = load_card(model)
        served = ServedModel(card, VERSION, shipped_vocabulary(), warning=warning)
        places = {"resolve": network.resolve, "connect": network.connect} if network else {}
        self.service = RecordingService(settings, environment, served, ports, **places)
        self.app: Any = build_api(self.service)

    @property
    def requests(self) -> list[PredictRequest]:
        return self.service.requests

    async def readiness(self) -> Readiness:
        return self.state

    async def _detect(self, query: DetectionQuery) -> Detections:
        if self.failure:
            raise self.failure
        pixels = decode_image(query.image, max_pixels=1_000_000)
        height, width, _ = pixels.shape
        count = 0 if self.finds_nothing else len(query.phrases)
        boxes = np.tile(np.array([0, 0, width, height], np.float32), (count, 1))
        masks = None if query.look is None else tuple(_filled(box) for box in boxes.tolist())
        return Detections(
            boxes,
            np.full(count, 0.9, np.float32),
            np.arange(count),
            (width, height),
            masks,
            picture_hash=None if query.urgent else perceptual_hash(pixels),
            text_scores=np.full(count, 0.9, np.float32),
        )

    async def _segment(self, query: SegmentationQuery) -> Detections:
        if self.failure:
            raise self.failure
        height, width, _ = decode_image(query.image, max_pixels=1_000_000).shape
        count = len(query.prompts_pct)
        boxes = np.tile(np.array([0, 0, width, height], np.float32), (count, 1))
        return Detections(
            boxes,
            np.full(count, 0.9, np.float32),
            np.arange(count),
            (width, height),
            tuple(_filled(box) for box in boxes.tolist()),
        )

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request over ASGI; an exception of the application becomes its answer of 500."""

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(exchange())


def _filled(box: list[float]) -> MaskLogits:
    """Return a mask of all pixels of a box that is the picture."""
    return MaskLogits(
        logits=np.ones((4, 4), np.float16),
        origin_xy=(0, 0),
        cells_wh=(4, 4),
        view_xyxy=(0, 0, int(box[2]), int(box[3])),
        clip_xyxy=(box[0], box[1], box[2], box[3]),
        quality=0.9,
    )


@contextmanager
def running(service: LocalService) -> Iterator[str]:
    """Serve the application on loopback for the block; gives its address."""
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
