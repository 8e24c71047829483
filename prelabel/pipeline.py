"""The pipeline of a predict request, from the request to one entry per task, in order.

    request -> plan of each task -> bytes of its pictures -> detections -> prediction

The pipeline knows the steps and not where they run: its ports are injected.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from prelabel.concurrency.background import BackgroundTasks
from prelabel.concurrency.fairness import FairSemaphore, gather_or_cancel
from prelabel.errors import (
    DeadlineError,
    PayloadTooLargeError,
    PrelabelError,
    PromptError,
    PromptMemoryError,
    RequestError,
)
from prelabel.labelstudio.labeling_config import LabelingConfig, parse_labeling_config
from prelabel.labelstudio.predictions import to_prediction, to_task_error
from prelabel.labelstudio.protocol import (
    Context,
    InvalidTask,
    PredictRequest,
    Task,
    project_key,
)
from prelabel.labelstudio.responses import Prediction, TaskError, mask_bytes
from prelabel.labelstudio.result_entries import prompt_request_of
from prelabel.observability.journal import Fault, Report
from prelabel.observability.request_context import current_request_id
from prelabel.observability.spans import Tracer
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.prompts.messages import NO_SEGMENTER, unreadable_message
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import (
    DetectionQuery,
    Detections,
    LookPlan,
    ProjectPrompts,
    SegmentationQuery,
    TaskPlan,
)

logger = logging.getLogger(__name__)

_MAX_FAULTS_REPORTED = 100  # of one request; the journal holds the newest 500 of all requests
_MAX_PICTURES = 20_000  # of one request; a plan takes about a kilobyte
# A request with a prompt needs no remembered prompt, but the project's extra parameters, which are
# recalled with it, may hold thresholds.
_RECALL_WAIT_WITH_PROMPT_S = 0.25
_PICTURES_AT_ONCE = 8  # of a single task, so that no task occupies all download threads

Entry = Prediction | TaskError


@dataclass(frozen=True, slots=True)
class PipelinePorts:
    """The steps of the pipeline that other components run.

    Attributes:
        recall: Returns the remembered prompts of a project, by its key.
        fetch: Returns the encoded bytes of a picture, by its address and the id of its task.
        detect: Returns the detections of one picture.
        segment: Returns the masks of objects in one picture.
        postprocess: Returns the prediction of one task.
        report: Adds a report to the journal; does not block.
        seen: Called with the id of a task, its looks, and the detections of each.
    """

    recall: Callable[[str], Awaitable[ProjectPrompts]]
    fetch: Callable[[str, int | None], Awaitable[bytes]]
    detect: Callable[[DetectionQuery], Awaitable[Detections]]
    segment: Callable[[SegmentationQuery], Awaitable[Detections]]
    postprocess: Callable[[TaskPlan, Sequence[Detections]], Awaitable[Prediction]]
    report: Callable[[Report], None] = lambda _: None
    seen: Callable[[int | None, Sequence[LookPlan], Sequence[Detections]], None] = lambda *_: None


@dataclass(frozen=True, slots=True)
class _Shared:
    """Labeling config and prompts, which all tasks of a request share."""

    config: LabelingConfig
    prompts: ProjectPrompts


@dataclass(slots=True, eq=False)
class _Run:
    """The state of one request.

    Attributes:
        request: The parsed request.
        slots: Limits the pictures that are worked on at the same time.
        urgent: True for a request of one task: an annotator waits for it.
        deadline: Time of the event loop at which unfinished tasks fail.
        shared: Labeling config and remembered prompts.
        planning: Lock by which one task at a time is planned. Planning blocks the event loop, and
            other requests run between two plans.
        pictures: Number of pictures of all tasks planned so far.
        unreadable: Names that the model cannot read and that were reported.
        mask_bytes: Bytes of the masks of all tasks answered so far.
        noted: Sentences about what was left out that were reported.
    """

    request: PredictRequest
    slots: FairSemaphore
    urgent: bool
    deadline: float
    shared: asyncio.Task[_Shared]
    planning: asyncio.Lock = field(default_factory=asyncio.Lock)
    pictures: int = 0
    unreadable: set[str] = field(default_factory=set)
    mask_bytes: int = 0
    noted: set[str] = field(default_factory=set)


class Predictor:
    """Answers predict requests; all tasks of a request are worked on concurrently.

    Args:
        settings: The application's settings.
        model_version: Version that every prediction carries.
        ports: The steps that other components run.
        tracer: Creates the spans of tasks, plans and detections.
        vocabulary: Words that the model can read; without it BERT's.
    """

    def __init__(
        self,
        settings: AppSettings,
        model_version: str,
        ports: PipelinePorts,
        tracer: Tracer | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._settings = settings
        self._vocabulary = vocabulary
        self._tracer = tracer or Tracer()
        self._model_version = model_version
        self._ports = ports
        self._bulk_slots = FairSemaphore(settings.limits.task_concurrency)  # of all bulk requests
        self._background = BackgroundTasks()

    async def predict(self, request: PredictRequest) -> list[Entry]:
        """Return one entry per task, in order: a prediction or an error.

        An error of one task leaves the other tasks unaffected.

        Raises:
            PayloadTooLargeError: The request has more tasks than `limits.max_tasks`.
        """
        if len(request.tasks) > self._settings.limits.max_tasks:
            raise PayloadTooLargeError(
                f"The request has {len(request.tasks)} tasks, and "
                f"{self._settings.limits.max_tasks} are allowed. Select fewer, or raise "
                "limits.max_tasks."
            )
        if request.context is not None and not request.context.result:
            # Submit sends an empty context; Label Studio would show boxes as suggestions on the
            # annotation that has just been submitted.
            return [to_prediction([], self._model_version) for _ in request.tasks]
        if not request.tasks:
            return []
        run = self._start(request)
        try:
            return await asyncio.gather(*(self._entry(task, run) for task in request.tasks))
        finally:
            run.shared.cancel()

    def _start(self, request: PredictRequest) -> _Run:
        urgent = len(request.tasks) == 1
        # A request of one task waits for no other request.
        own_slots = min(_PICTURES_AT_ONCE, self._settings.limits.task_concurrency)
        return _Run(
            request,
            slots=FairSemaphore(own_slots) if urgent else self._bulk_slots,
            urgent=urgent,
            deadline=asyncio.get_running_loop().time() + self._settings.limits.request_deadline_s,
            shared=asyncio.create_task(self._load_shared(request)),
        )

    async def _entry(self, task: Task | InvalidTask, run: _Run) -> Entry:
        try:
            with self._tracer.span("task", task_id=task.id):
                async with asyncio.timeout_at(run.deadline):
                    return await self._predict_task(task, run)
        except TimeoutError:
            error: PrelabelError = DeadlineError(
                f"The task was not done within {self._settings.limits.request_deadline_s:g} s. "
                "Retrieve predictions again for the tasks that are left."
            )
        except PrelabelError as failure:
            error = failure
        except Exception:
            # The edge of a task: a defect of this service fails this task alone, and is logged.
            logger.exception("task %s failed", task.id, extra={"task": task.id})
            error = PrelabelError(
                "The service failed on this task. Its log says why, under this request's id."
            )
        kind = type(error).__name__
        logger.warning("task %s: %s: %s", task.id, kind, error, extra={"task": task.id})
        return to_task_error(error, current_request_id())

    async def _predict_task(self, task: Task | InvalidTask, run: _Run) -> Prediction:
        if isinstance(task, InvalidTask):
            raise RequestError(
                f"The task does not have the form that Label Studio sends ({task.fault}). "
                "Correct it."
            )
        # Shielded, because the other tasks of the request wait for it, too.
        shared = await asyncio.shield(run.shared)
        async with run.planning:
            await asyncio.sleep(0)  # lets other requests run between the plans of two tasks
            plan = self._plan(task, shared, run)
            self._report_unreadable(plan, task.id, run)
        detections = await gather_or_cancel(self._detect(look, task.id, run) for look in plan.looks)
        self._ports.seen(task.id, plan.looks, detections)
        # Addresses stay here: a data: URL holds the whole picture.
        looks = tuple(replace(look, uri="") for look in plan.looks)
        prediction = await self._ports.postprocess(replace(plan, looks=looks), detections)
        self._report_notes(prediction, task.id, run)
        run.mask_bytes += mask_bytes(prediction)
        return prediction

    async def _load_shared(self, request: PredictRequest) -> _Shared:
        project = project_key(request.project)
        config = parse_labeling_config(
            request.label_config,
            self._settings.prompts.max_labels,
            masks=bool(self._settings.segmenter_name),
        )
        if project is None:
            return _Shared(config, ProjectPrompts())
        recall = self._background.start(self._recall(project))
        # The recall continues after the wait, because it makes the project known: webhooks of
        # unknown projects are ignored.
        has_prompt = _has_prompt(request.context, config)
        await asyncio.wait({recall}, timeout=_RECALL_WAIT_WITH_PROMPT_S if has_prompt else None)
        prompts = recall.result() if recall.done() else ProjectPrompts()
        if not self._settings.prompts.remember:
            prompts = ProjectPrompts(project=prompts.project)
        return _Shared(config, prompts)

    async def _recall(self, project: str) -> ProjectPrompts:
        """Return the remembered prompts of a project.

        If the store cannot be used, a fault is reported and there are none, because a task can be
        predicted without them.
        """
        try:
            return await self._ports.recall(project)
        except PromptMemoryError as error:
            kind = type(error).__name__
            logger.warning("project %s: %s: %s", project, kind, error)
            self._ports.report(_fault_report(project, None, kind, str(error)))
            return ProjectPrompts()

    def _plan(self, task: Task, shared: _Shared, run: _Run) -> TaskPlan:
        with self._tracer.span("plan"):
            config = shared.config.for_task(task.data)
            sources = PromptSources.of(
                task, run.request.context, shared.prompts, config, run.request.prompt_request
            )
            plan = plan_task(task, config, sources, self._settings, self._vocabulary)
        run.pictures += len(plan.looks)
        if run.pictures > _MAX_PICTURES:
            raise RequestError(
                f"The request's tasks have more than {_MAX_PICTURES} pictures. Select fewer tasks."
            )
        return plan

    def _report_unreadable(self, plan: TaskPlan, task_id: int | None, run: _Run) -> None:
        """Report names that were left out because the model cannot read them, once a request."""
        new = [name for name in plan.unreadable if name not in run.unreadable]
        if new:
            run.unreadable.update(new)
            sentence = unreadable_message(new)
            logger.warning("task %s: %s", task_id, sentence)
            project = project_key(run.request.project)
            self._ports.report(_fault_report(project, task_id, PromptError.__name__, sentence))

    def _check_size(self, run: _Run) -> None:
        """Raise PayloadTooLargeError if the request's answer is as large as it may be."""
        most = self._settings.limits.max_answer_bytes
        if run.mask_bytes > most:
            raise PayloadTooLargeError(
                f"The masks of this request have {most} bytes already. Retrieve predictions again "
                "for the tasks that are left, or use PolygonLabels, whose masks are smaller."
            )

    def _report_notes(self, prediction: Prediction, task_id: int | None, run: _Run) -> None:
        """Report what was left out of a prediction, each sentence once a request."""
        project = project_key(run.request.project)
        for note in prediction.get("notes", ()):
            if note not in run.noted and len(run.noted) < _MAX_FAULTS_REPORTED:
                run.noted.add(note)
                logger.warning("task %s: %s", task_id, note)
                self._ports.report(_fault_report(project, task_id, "LeftOut", note))

    async def _detect(self, look: LookPlan, task_id: int | None, run: _Run) -> Detections:
        if look.objects and not self._settings.segmenter_name:
            raise PromptError(NO_SEGMENTER)
        async with run.slots.turn(run):
            # Here, because all tasks have started by the time the first one is answered.
            self._check_size(run)
            image = await self._ports.fetch(look.uri, task_id)
            if look.objects:
                with self._tracer.span("segment"):
                    prompts = tuple(each.prompt_pct for each in look.objects)
                    return await self._ports.segment(SegmentationQuery(image, prompts, run.urgent))
            with self._tracer.span("detect"):
                with_masks = replace(look, uri="") if look.wants_masks else None
                query = DetectionQuery(image, look.phrases, look.thresholds, run.urgent, with_masks)
                return await self._ports.detect(query)


def _has_prompt(context: Context | None, config: LabelingConfig) -> bool:
    return context is not None and any(
        prompt_request_of([entry], config.prompt_controls, strict=False).prompt
        for entry in context.result
    )


def _fault_report(project: str | None, task_id: int | None, kind: str, sentence: str) -> Report:
    """Return the report of a fault that fails neither the request nor the task."""
    fault = Fault(datetime.now(UTC), current_request_id(), project, task_id, kind, sentence)
    return Report({f"errors.{kind}": 1}, (fault,))


def prediction_report(request: PredictRequest, entries: Sequence[Entry], seconds: float) -> Report:
    """Return the journal's report of an answered predict request that took `seconds`."""
    counts = Counter(requests=1, tasks=len(entries))
    faults: list[Fault] = []
    now, request_id = datetime.now(UTC), current_request_id()
    project = project_key(request.project)
    for task, entry in zip(request.tasks, entries, strict=True):
        if "error" in entry:
            kind = entry["error_type"]
            counts.update(["tasks_failed", f"errors.{kind}"])
            faults.append(Fault(now, request_id, project, task.id, kind, entry["error"]))
        else:
            counts["regions"] += len(entry["result"])
    return Report(counts, tuple(faults[:_MAX_FAULTS_REPORTED]), seconds, len(entries) == 1)


def failure_report(error: PrelabelError) -> Report:
    """Return the journal's report of a request that failed as a whole."""
    kind = type(error).__name__
    fault = Fault(datetime.now(UTC), current_request_id(), None, None, kind, str(error))
    return Report({"requests_failed": 1, f"errors.{kind}": 1}, (fault,))
