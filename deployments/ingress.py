"""The ML backend that Label Studio talks to. Never waits for the model but in /predict."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.handles import call, streamed
from deployments.logs import use_serve_log
from deployments.metrics import IngressMetrics
from deployments.prompt_cache import Recall
from deployments.readiness import DetectorWatch, Readiness
from deployments.routes import build_api
from prelabel.checkpoints.cards import ModelCard
from prelabel.concurrency.fairness import afterwards
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.errors import PromptMemoryError
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.labelstudio.image_locator import ImageLocator
from prelabel.labelstudio.protocol import PredictRequest, WebhookRequest, project_key
from prelabel.labelstudio.responses import Prediction
from prelabel.net.egress import Egress
from prelabel.observability.journal import Fault, Report
from prelabel.observability.timing import timed
from prelabel.observability.tracing import open_tracer
from prelabel.phrases.matching import load_words
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.pipeline import Entry, PipelinePorts, Predictor, report_on
from prelabel.prompts.store import StoredPrompt
from prelabel.prompts.submitted import submitted_prompt
from prelabel.settings.application import AppSettings, Environment
from prelabel.types import DetectionQuery, Detections, PromptRequest, TaskPlan

logger = logging.getLogger(__name__)

_LONGEST_KEPT_ADDRESS = 4096
_DECODED_AT_ONCE = 128 * 1024  # characters: that takes less time than the way to a thread and back
_REPORT_AFTER_S = 0.5
_STORE_LEARNS_WITHIN_S = 1.0
_MOST_PROJECTS = 1_000
_FETCHING_THREADS = 64  # twice what one request may have under way (task_concurrency)


@serve.ingress()
class Ingress:
    """Parses, fetches pictures, delegates, answers."""

    def __init__(
        self,
        settings: AppSettings,
        environment: Environment,
        card: ModelCard,
        model_version: str,
        vocabulary: Vocabulary,
        detector: DeploymentHandle[Any],
        postprocessor: DeploymentHandle[Any],
        prompt_store: DeploymentHandle[Any],
        journal: DeploymentHandle[Any],
    ) -> None:
        use_serve_log(settings.log_level)
        load_words()
        self.settings = settings
        self.environment = environment
        self.card = card
        self.model_version = model_version
        self.vocabulary = vocabulary
        self._detector = streamed(detector)
        self._watch = DetectorWatch(self._detector)
        self._postprocessor = streamed(postprocessor)
        self._prompts = prompt_store
        self._journal = journal
        self._tasks_in_progress = 0
        self._reports: list[Report] = []
        self._reporting: asyncio.Task[None] | None = None
        self._recall = Recall(prompt_store)
        self._met: dict[str, PromptRequest] = {}  # extra parameters, by project
        self._telling: set[asyncio.Task[None]] = set()  # the loop itself does not keep them
        self._fetching = ThreadPoolExecutor(_FETCHING_THREADS, thread_name_prefix="fetch")
        self._pictures: SingleFlightCache[bytes] = SingleFlightCache(
            len,
            max_bytes=settings.picture_cache_bytes,
            max_age_s=settings.picture_cache_s,
        )
        limits = FetchLimits(
            max_bytes=settings.max_image_bytes,
            connect_timeout_s=settings.connect_timeout_s,
            total_timeout_s=settings.fetch_timeout_s,
        )
        egress = Egress.of(environment.trust, environment.proxies)
        self._label_studio = ImageLocator(
            environment.label_studio_url,
            environment.label_studio_token,
            max_image_bytes=settings.max_image_bytes,
            connect_timeout_s=settings.connect_timeout_s,
            timeout_s=settings.fetch_timeout_s,
            egress=egress,
        )
        self._fetcher = ImageFetcher(
            limits,
            allowed_hosts=settings.allowed_image_hosts,
            trusted_url=environment.label_studio_url,
            tls=egress.tls,
            proxies=egress.proxies,
            proxy_resolves_names=settings.proxy_resolves_names,
        )
        self._metrics = IngressMetrics()
        self._tracer = open_tracer(environment.traces, "ingress")
        self._observe = self._tracer.beside(self._metrics.observe)
        self._predictor = Predictor(
            settings,
            model_version,
            PipelinePorts(self._recall, self._fetch, self._detect, self._postprocess, self.note),
            self._tracer,
            vocabulary,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve asks for the application after the constructor."""
        return build_api(self)

    async def readiness(self) -> Readiness:
        """Whether a predict would be answered now."""
        return await self._watch()

    async def predict(
        self, request: PredictRequest, request_id: str, traceparent: str = ""
    ) -> list[Entry]:
        """One entry per task, in order."""
        started = time.monotonic()
        self._tasks_in_progress += len(request.tasks)
        self._metrics.in_progress(self._tasks_in_progress)
        try:
            with self._tracer.span(
                "request",
                traceparent,
                request_id=request_id,
                tasks=len(request.tasks),
                project=project_key(request.project),
            ):
                entries = await self._predictor.predict(request, request_id)
        finally:
            self._tasks_in_progress -= len(request.tasks)
            self._metrics.in_progress(self._tasks_in_progress)
        taken = time.monotonic() - started
        afterwards(lambda: self.note(report_on(request, entries, request_id, taken)))
        return entries

    def note(self, report: Report) -> None:
        """Put it into the journal soon; waits for nothing."""
        self._metrics.count(report)
        self._reports.append(report)
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report_soon())

    async def _report_soon(self) -> None:
        """What came together goes together: a call costs more than what it says."""
        await asyncio.sleep(_REPORT_AFTER_S)
        await self._report()

    async def _report(self) -> None:
        reports, self._reports = self._reports, []
        if reports:
            await call(self._journal.note, reports)

    async def metrics(self) -> dict[str, float]:
        """Counts and times of all ingress replicas; what is in progress is of this one."""
        await self._report()
        total = cast("dict[str, float]", await call(self._journal.metrics))
        return {**total, "tasks_in_progress": self._tasks_in_progress}

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        """The newest errors of all ingress replicas."""
        await self._report()
        return cast("list[Fault]", await call(self._journal.errors, project, limit))

    async def meet(self, project: str | int | None, asked: PromptRequest) -> None:
        """Let the store know a project whose webhooks may come, and its extra parameters.

        Returns once the store knows new parameters, because Label Studio asks for predictions
        right after; or after a second, because it waits three seconds for the whole answer.
        """
        key = project_key(project)
        if key is None:
            return
        telling = asyncio.create_task(self._tell_store(key, asked))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        if self._met.get(key) != asked:
            await asyncio.wait({telling}, timeout=_STORE_LEARNS_WITHIN_S)

    async def _tell_store(self, key: str, asked: PromptRequest) -> None:
        try:
            await self._recall.ask(self._prompts.meet, key, asked)
        except PromptMemoryError as error:
            logger.warning("project %s: its extra parameters are not kept. %s", key, error)
            return
        if self._met.get(key) != asked:
            self._recall.forget()
            self._met[key] = asked
            if len(self._met) > _MOST_PROJECTS:
                del self._met[next(iter(self._met))]

    async def remember(self, event: WebhookRequest) -> None:
        """Keep the prompt of a submitted annotation; other events are none of our business.

        Webhooks come from anybody: a stranger's labeling config is not even read, and no other
        request waits while one is.
        """
        project = event.project_key
        submitted_at = event.annotation.updated_at if event.annotation else None
        if not self.settings.remember_prompts or project is None or submitted_at is None:
            return
        if not await self._recall.ask(self._prompts.knows, project):
            return
        asked = await asyncio.to_thread(submitted_prompt, event, self.settings, self.vocabulary)
        if asked != PromptRequest():
            await self._recall.ask(self._prompts.remember, project, submitted_at, asked)
            self._recall.forget()

    async def remembered(self, project: str | None) -> dict[str, StoredPrompt]:
        """What is remembered for projects, by their keys."""
        shown = await self._recall.ask(self._prompts.show, project)
        return cast("dict[str, StoredPrompt]", shown)

    async def forget(self, project: str) -> int:
        """Forget it; for how many projects of that id."""
        forgotten = cast("int", await self._recall.ask(self._prompts.forget, project))
        self._recall.forget()
        return forgotten

    async def _fetch(self, uri: str, task_id: int | None) -> bytes:
        holds_the_picture = uri.startswith("data:")

        async def fetch() -> bytes:
            with timed(self._observe, "fetch"):
                if holds_the_picture and len(uri) <= _DECODED_AT_ONCE:
                    return self._fetch_now(uri, task_id)
                return await asyncio.get_running_loop().run_in_executor(
                    self._fetching, self._fetch_now, uri, task_id
                )

        if holds_the_picture or len(uri) > _LONGEST_KEPT_ADDRESS:
            return await fetch()
        # The task belongs to the key: by it Label Studio decides who may see the picture.
        return await self._pictures.get((uri, task_id), fetch)

    def _fetch_now(self, uri: str, task_id: int | None) -> bytes:
        found = self._label_studio.locate(uri, task_id)
        if isinstance(found, bytes):
            return found
        return self._fetcher.fetch(found.url, found.credentials, found.hint)

    async def _detect(self, query: DetectionQuery) -> Detections:
        return cast("Detections", await call(self._detector, query))

    async def _postprocess(self, plan: TaskPlan, found: Sequence[Detections]) -> Prediction:
        with timed(self._metrics.observe, "postprocess"), self._tracer.span("postprocess"):
            carried = self._tracer.carried()
            return cast("Prediction", await call(self._postprocessor, plan, found, carried))
