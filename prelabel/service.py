"""The ML backend without Ray: everything that its routes need.

`deployments.ingress` binds the ports to other deployments and serves the routes; tests bind them
to local objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from prelabel.checkpoints.cards import ModelCard, SegmenterCard
from prelabel.concurrency.background import BackgroundTasks
from prelabel.errors import PromptMemoryError
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.images.source import ImageSource
from prelabel.labelstudio.image_locator import ImageLocator
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import (
    PredictRequest,
    SetupRequest,
    WebhookRequest,
    project_key,
)
from prelabel.labelstudio.responses import Prediction
from prelabel.net.egress import Egress
from prelabel.net.transport import Connect, Resolve, connect_socket, resolve_host
from prelabel.observability.journal import Fault, JournalPort, JournalWriter, Report
from prelabel.observability.request_context import current_request_id
from prelabel.observability.spans import Tracer
from prelabel.observability.timing import timed
from prelabel.phrases.matching import load_words
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.pipeline import (
    Entry,
    PipelinePorts,
    Predictor,
    prediction_report,
)
from prelabel.prompts.messages import NO_SEGMENTER, unreadable_message
from prelabel.prompts.repository import PromptPort
from prelabel.prompts.searches import unreadable_labels
from prelabel.prompts.storage import StoredPrompt
from prelabel.prompts.submitted import submitted_prompt
from prelabel.settings import AppSettings, Environment
from prelabel.types import (
    DetectionQuery,
    Detections,
    PromptRequest,
    SegmentationQuery,
    TaskPlan,
)

logger = logging.getLogger(__name__)

# Label Studio waits 3 s for the answer to /setup and requests predictions right after it. These
# should use the new extra parameters, so that the answer waits for their registration.
_REGISTRATION_WAIT_S: Final = 1.0
_MAX_PROJECTS: Final = 1_000  # whose extra parameters are compared at the next /setup


@dataclass(frozen=True)
class ServedModel:
    """The model that the application serves.

    Attributes:
        card: Card of the checkpoint.
        version: Version under which Label Studio files predictions.
        vocabulary: Words that the model can read.
        segmenter: Card of the segmenter, None if the service draws no masks.
        warning: A sentence about the card if it is probably wrong, else None.
    """

    card: ModelCard
    version: str
    vocabulary: Vocabulary
    segmenter: SegmenterCard | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Readiness to answer a predict request.

    Attributes:
        status: UP if a predict request would be answered, possibly by a detector that starts for
            it (`min_replicas: 0`); STARTING while the first detector loads; DOWN if it failed.
        ready: True once a detector has been running.
        detectors: Number of detector replicas that run, some seconds ago; None while unknown.
    """

    status: Literal["UP", "STARTING", "DOWN"]
    ready: bool
    detectors: int | None = None


@dataclass(frozen=True, slots=True)
class ServicePorts:
    """The components that run elsewhere.

    Attributes:
        detect: Returns the detections of one picture.
        segment: Returns the masks of objects in one picture.
        postprocess: Returns the prediction of one task.
        readiness: Returns whether a predict would be answered now.
        prompts: The remembered prompts.
        journal: The journal.
    """

    detect: Callable[[DetectionQuery], Awaitable[Detections]]
    segment: Callable[[SegmentationQuery], Awaitable[Detections]]
    postprocess: Callable[[TaskPlan, Sequence[Detections]], Awaitable[Prediction]]
    readiness: Callable[[], Awaitable[Readiness]]
    prompts: PromptPort
    journal: JournalPort


class ServiceMetrics(Protocol):
    """Metrics of one ingress replica."""

    def observe(self, stage: str, seconds: float) -> None:
        """Record the duration of a stage."""

    def count(self, report: Report) -> None:
        """Add the counts and the duration of a report."""

    def in_progress(self, tasks: int) -> None:
        """Record the number of tasks that are being worked on."""


class NoMetrics:
    """Discards all metrics."""

    def observe(self, _stage: str, _seconds: float) -> None:
        """Ignore the duration."""

    def count(self, _report: Report) -> None:
        """Ignore the report."""

    def in_progress(self, _tasks: int) -> None:
        """Ignore the number."""


class Service:
    """Answers the requests of Label Studio. All methods belong to one event loop.

    Args:
        settings: The application's settings.
        environment: Variables of the environment, with their secrets.
        model: The model that the detectors run.
        ports: The components that run elsewhere.
        tracer: Creates spans; none by default.
        metrics: Receives durations and counts; ignored by default.
        resolve: Resolves the hosts of pictures.
        connect: Connects to the hosts of pictures.
    """

    def __init__(
        self,
        settings: AppSettings,
        environment: Environment,
        model: ServedModel,
        ports: ServicePorts,
        *,
        tracer: Tracer | None = None,
        metrics: ServiceMetrics | None = None,
        resolve: Resolve = resolve_host,
        connect: Connect = connect_socket,
    ) -> None:
        load_words()  # takes more than a second, for which no request should wait
        self.settings = settings
        self.environment = environment
        self.model = model
        self.tracer = tracer or Tracer()
        self._metrics = metrics or NoMetrics()
        self.ports = ports
        self._journal = JournalWriter(ports.journal)
        self._tasks_in_progress = 0
        self._registered: dict[str, PromptRequest] = {}  # extra parameters, by project key
        self._background = BackgroundTasks()
        images = ImageSource(
            image_download(settings, environment, resolve, connect),
            max_cached_bytes=settings.cache.picture_bytes,
            max_cached_s=settings.cache.picture_s,
            observe=self.tracer.beside(self._metrics.observe),
        )
        pipeline_ports = PipelinePorts(
            recall=ports.prompts.recall,
            fetch=images.fetch,
            detect=ports.detect,
            segment=ports.segment,
            postprocess=self._postprocess,
            report=self.report,
        )
        self._predictor = Predictor(
            settings, model.version, pipeline_ports, self.tracer, model.vocabulary
        )

    async def readiness(self) -> Readiness:
        """Return whether a predict would be answered now."""
        return await self.ports.readiness()

    async def predict(self, request: PredictRequest) -> list[Entry]:
        """Return one entry per task, in order: a prediction or an error."""
        tasks = len(request.tasks)
        self._add_in_progress(tasks)
        try:
            with self.tracer.span(
                "request",
                request_id=current_request_id(),
                tasks=tasks,
                project=project_key(request.project),
            ):
                return await self._predictor.predict(request)
        finally:
            self._add_in_progress(-tasks)

    async def record(
        self, request: PredictRequest, entries: Sequence[Entry], seconds: float
    ) -> None:
        """Log an answered predict request, and report it to the journal."""
        report = prediction_report(request, entries, seconds)
        failed = report.counts.get("tasks_failed", 0)
        logger.info("%d tasks, %d failed, %.2f s", len(entries), failed, seconds)
        self.report(report)

    async def record_failure(self, report: Report) -> None:
        """Report a request that failed as a whole."""
        self.report(report)

    def report(self, report: Report) -> None:
        """Add a report to metrics and journal; does not block."""
        self._metrics.count(report)
        self._journal.add(report)

    async def metrics(self) -> dict[str, float]:
        """Return the metrics of all ingress replicas, and the tasks in progress in this one.

        Raises JournalError if the journal cannot be reached.
        """
        await self._journal.flush()
        total = await self.ports.journal.metrics()
        return {**total, "tasks_in_progress": self._tasks_in_progress}

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        """Return the errors of all ingress replicas, newest first.

        Raises JournalError if the journal cannot be reached.
        """
        await self._journal.flush()
        return await self.ports.journal.errors(project, limit)

    async def setup(self, request: SetupRequest) -> None:
        """Check a labeling config and make its project known, with its extra parameters.

        Raises LabelingConfigError for a config that has nothing to draw boxes with.
        """
        key = project_key(request.project)
        if request.label_config is not None:
            config = parse_labeling_config(
                request.label_config,
                self.settings.prompts.max_labels,
                masks=bool(self.settings.segmenter_name),
            )
            if config.lacks_segmenter:
                logger.warning("project %s: %s", key, NO_SEGMENTER)
            if unreadable := unreadable_labels(config, self.model.vocabulary):
                logger.warning("project %s: %s", key, unreadable_message(unreadable))
        if key is None:
            return
        registration = self._background.start(self._register(key, request.prompt_request))
        if self._registered.get(key) != request.prompt_request:
            await asyncio.wait({registration}, timeout=_REGISTRATION_WAIT_S)

    async def remember(self, event: WebhookRequest) -> None:
        """Remember the prompt of a submitted annotation; other events are ignored.

        Webhooks carry no credentials. The labeling config of an unknown project is not parsed,
        and parsing runs in a thread.

        Raises PromptMemoryError if the store cannot be used.
        """
        self.report(Report({"webhooks": 1}))
        project = event.project_key
        submitted_at = event.annotation.updated_at if event.annotation else None
        if not self.settings.prompts.remember or project is None or submitted_at is None:
            return
        prompts = self.ports.prompts
        if not await prompts.knows(project):
            return
        prompt = await asyncio.to_thread(
            submitted_prompt, event, self.settings.prompts, self.model.vocabulary
        )
        if prompt != PromptRequest():
            await prompts.remember(project, submitted_at, prompt)

    async def prompts(self, project: str | None) -> dict[str, StoredPrompt]:
        """Return the remembered prompts by project key, of all projects or those of one id.

        Raises PromptMemoryError if the store cannot be used.
        """
        return await self.ports.prompts.find(project)

    async def forget(self, project: str) -> int:
        """Forget the prompts of the projects with that id. Return their number.

        Raises PromptMemoryError if the store cannot be used.
        """
        return await self.ports.prompts.forget(project)

    async def _register(self, key: str, extra: PromptRequest) -> None:
        try:
            await self.ports.prompts.register(key, extra)
        except PromptMemoryError as error:
            logger.warning("project %s: its extra parameters are not stored. %s", key, error)
            return
        if self._registered.get(key) == extra:
            return
        # Needed even if the store knew them: another replica may have registered them a moment ago,
        # and this one not yet have noticed the change.
        await self.ports.prompts.refresh()
        self._registered[key] = extra
        if len(self._registered) > _MAX_PROJECTS:
            del self._registered[next(iter(self._registered))]

    async def _postprocess(self, plan: TaskPlan, detections: Sequence[Detections]) -> Prediction:
        with timed(self._metrics.observe, "postprocess"), self.tracer.span("postprocess"):
            return await self.ports.postprocess(plan, detections)

    def _add_in_progress(self, tasks: int) -> None:
        self._tasks_in_progress += tasks
        self._metrics.in_progress(self._tasks_in_progress)


def image_download(
    settings: AppSettings,
    environment: Environment,
    resolve: Resolve = resolve_host,
    connect: Connect = connect_socket,
) -> Callable[[str, int | None], bytes]:
    """Return the blocking download of a picture by its address and the id of its task."""
    egress = Egress.of(environment)
    locator = ImageLocator(
        environment.label_studio_url,
        environment.label_studio_secret,
        max_image_bytes=settings.images.max_bytes,
        connect_timeout_s=settings.images.connect_timeout_s,
        timeout_s=settings.images.fetch_timeout_s,
        egress=egress,
    )
    fetcher = ImageFetcher(
        FetchLimits(
            max_bytes=settings.images.max_bytes,
            connect_timeout_s=settings.images.connect_timeout_s,
            total_timeout_s=settings.images.fetch_timeout_s,
        ),
        allowed_hosts=settings.images.allowed_hosts,
        trusted_url=environment.label_studio_url,
        tls=egress.tls,
        proxies=egress.proxies,
        proxy_resolves_names=settings.images.proxy_resolves_names,
        resolve=resolve,
        connect=connect,
    )

    def download(address: str, task_id: int | None) -> bytes:
        located = locator.locate(address, task_id)
        if isinstance(located, bytes):
            return located
        return fetcher.fetch(located.url, located.credentials, located.hint)

    return download
