"""The whole story of a predict: from a request to one entry per task, in order.

    request -> plans (what to look for, and where) -> picture bytes -> detections -> prediction

It knows the steps, not where they run: the deployments pass them in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from prelabel.concurrency.fairness import FairSemaphore, afterwards, gather_or_cancel
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
from prelabel.labelstudio.responses import Prediction, TaskError
from prelabel.labelstudio.result_entries import prompt_request_of
from prelabel.observability.journal import Fault, Report
from prelabel.observability.spans import Tracer
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.prompts.messages import unreadable_message
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings.application import AppSettings
from prelabel.types import DetectionQuery, Detections, LookPlan, ProjectPrompts, TaskPlan

logger = logging.getLogger(__name__)

_FAULTS_REPORTED = 100  # of a request: the journal would hold nothing else soon
_MOST_PICTURES = 20_000  # of one request
_TYPED_WAITS_S = 0.25  # for the memory of prompts; it may hold thresholds of the project
_PICTURES_AT_ONCE = 8  # of an annotator's task, so that no task has all threads that fetch

Entry = Prediction | TaskError


@dataclass(frozen=True, slots=True)
class PipelinePorts:
    """What a request needs done. recall: what is remembered for a project, by its key; fetch: a
    picture's bytes, by its address and the task's id; note: puts a report into the journal.
    """

    recall: Callable[[str], Awaitable[ProjectPrompts]]
    fetch: Callable[[str, int | None], Awaitable[bytes]]
    detect: Callable[[DetectionQuery], Awaitable[Detections]]
    postprocess: Callable[[TaskPlan, Sequence[Detections]], Awaitable[Prediction]]
    note: Callable[[Report], None] = lambda _: None


@dataclass(slots=True, eq=False)
class _Run:
    """A request being worked on: by whose turns, and before others or not.

    planning: held by the task that is being planned; pictures: of the tasks that were; unreadable:
    what the model has no word of, and the journal was told.
    """

    id: str
    turns: FairSemaphore
    urgent: bool
    planning: asyncio.Lock = field(default_factory=asyncio.Lock)
    pictures: int = 0
    unreadable: set[str] = field(default_factory=set)


class Predictor:
    """Answers predict requests. All tasks of a request are worked on concurrently."""

    def __init__(
        self,
        settings: AppSettings,
        model_version: str,
        steps: PipelinePorts,
        tracer: Tracer | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._settings = settings
        self._vocabulary = vocabulary
        self._tracer = tracer or Tracer()
        self._model_version = model_version
        self._steps = steps
        self._bulk = FairSemaphore(settings.task_concurrency)  # of all bulk requests together
        self._recalling: set[asyncio.Task[ProjectPrompts]] = (
            set()
        )  # the loop itself does not keep them

    async def predict(self, request: PredictRequest, request_id: str) -> list[Entry]:
        """One entry per task: a prediction, or an error that costs its neighbours nothing.

        Raises PayloadTooLargeError for more tasks than a request may have.
        """
        if len(request.tasks) > self._settings.max_tasks:
            raise PayloadTooLargeError(
                f"The request has {len(request.tasks)} tasks, and {self._settings.max_tasks} are "
                "allowed. Select fewer, or raise max_tasks."
            )
        if request.context is not None and not request.context.result:
            # Submit sends this; boxes would land as suggestions on the submitted annotation.
            return [to_prediction([], self._model_version) for _ in request.tasks]
        if not request.tasks:
            return []
        started = time.monotonic()
        deadline = asyncio.get_running_loop().time() + self._settings.request_deadline_s
        urgent = len(request.tasks) == 1  # an annotator's page waits, with or without a prompt
        at_once = min(_PICTURES_AT_ONCE, self._settings.task_concurrency)
        turns = FairSemaphore(at_once) if urgent else self._bulk
        run = _Run(request_id, turns, urgent)
        ground = asyncio.create_task(self._ground(request, request_id))

        async def entry(task: Task | InvalidTask) -> Entry:
            try:
                with self._tracer.span("task", task_id=task.id):
                    async with asyncio.timeout_at(deadline):
                        if isinstance(task, InvalidTask):
                            raise RequestError(
                                f"This is no task of Label Studio's form ({task.fault}). "
                                "Correct it."
                            )
                        config, recalled = await asyncio.shield(ground)
                        async with run.planning:
                            await asyncio.sleep(0)  # others, and the deadline, get in between
                            plan = self._plan(task, request.context, recalled, config, run)
                            self._note_unreadable(plan, project_key(request.project), task.id, run)
                        return await self._predict_task(task, plan, run)
            except TimeoutError:
                error: PrelabelError = DeadlineError(
                    f"Not done within {self._settings.request_deadline_s:g} s. "
                    "Retrieve predictions again for what is left."
                )
            except PrelabelError as failure:
                error = failure
            except Exception:  # the edge: a defect of ours costs this task alone, and is logged
                logger.exception(
                    "task %s: request %s", task.id, request_id, extra={"task": task.id}
                )
                error = PrelabelError(
                    "The service failed on this task. Its log says why, under this request's id."
                )
            kind = type(error).__name__
            logger.warning(
                "task %s: %s: %s (request %s)",
                task.id,
                kind,
                error,
                request_id,
                extra={"task": task.id},
            )
            return to_task_error(error, request_id)

        try:
            entries = await asyncio.gather(*(entry(task) for task in request.tasks))
        finally:
            ground.cancel()
        failed = sum("error" in each for each in entries)
        seconds = time.monotonic() - started
        line = "%d tasks, %d failed, %.2f s (request %s)"
        afterwards(lambda: logger.info(line, len(entries), failed, seconds, request_id))
        return list(entries)

    async def _ground(
        self, request: PredictRequest, request_id: str
    ) -> tuple[LabelingConfig, ProjectPrompts]:
        """What all tasks of a request share."""
        project = project_key(request.project)
        config = parse_labeling_config(request.label_config, self._settings.max_labels)
        if project is None:
            return config, ProjectPrompts()
        recalling = asyncio.create_task(self._recall(project, request_id))
        self._recalling.add(recalling)
        recalling.add_done_callback(self._recalling.discard)
        # What was typed needs no memory. It is still recalled, beside the answer: a project's
        # submits count from then on.
        longest_s = _TYPED_WAITS_S if _is_typed(request.context, config) else None
        await asyncio.wait({recalling}, timeout=longest_s)
        recalled = recalling.result() if recalling.done() else ProjectPrompts()
        if not self._settings.remember_prompts:
            recalled = ProjectPrompts(project=recalled.project)
        return config, recalled

    async def _recall(self, project: str, request_id: str) -> ProjectPrompts:
        """What is remembered for a project; nothing, and a fault in the journal, where that cannot
        be told: predictions do not depend on the memory.
        """
        try:
            return await self._steps.recall(project)
        except PromptMemoryError as error:
            kind = type(error).__name__
            logger.warning("project %s: %s: %s (request %s)", project, kind, error, request_id)
            self._steps.note(_report_on_fault(request_id, project, None, kind, str(error)))
            return ProjectPrompts()

    def _plan(
        self,
        task: Task,
        context: Context | None,
        recalled: ProjectPrompts,
        config: LabelingConfig,
        run: _Run,
    ) -> TaskPlan:
        with self._tracer.span("plan"):
            config = config.for_task(task.data)
            sources = PromptSources.of(task, context, recalled, config)
            plan = plan_task(task, config, sources, self._settings, self._vocabulary)
        run.pictures += len(plan.looks)
        if run.pictures > _MOST_PICTURES:
            raise RequestError(
                f"The request's tasks have more than {_MOST_PICTURES} pictures. Select fewer tasks."
            )
        return plan

    def _note_unreadable(
        self, plan: TaskPlan, project: str | None, task_id: int | None, run: _Run
    ) -> None:
        """Tell the journal, once a request, what was left out because the model cannot read it."""
        new = [name for name in plan.unreadable if name not in run.unreadable]
        if new:
            run.unreadable.update(new)
            sentence = unreadable_message(new)
            logger.warning("task %s: %s (request %s)", task_id, sentence, run.id)
            kind = PromptError.__name__
            self._steps.note(_report_on_fault(run.id, project, task_id, kind, sentence))

    async def _predict_task(self, task: Task, plan: TaskPlan, run: _Run) -> Prediction:
        found = await gather_or_cancel(self._look(look, task.id, run) for look in plan.looks)
        # Its pictures stay here: an address may hold the whole picture.
        addressless = tuple(replace(look, uri="") for look in plan.looks)
        return await self._steps.postprocess(replace(plan, looks=addressless), found)

    async def _look(self, look: LookPlan, task_id: int | None, run: _Run) -> Detections:
        async with run.turns.turn(run):
            image = await self._steps.fetch(look.uri, task_id)
            with self._tracer.span("detect"):
                query = DetectionQuery(
                    image,
                    look.phrases,
                    look.thresholds,
                    run.urgent,
                    run.id,
                    self._tracer.carried(),
                )
                return await self._steps.detect(query)


def _is_typed(context: Context | None, config: LabelingConfig) -> bool:
    """Whether the request brings a prompt of its own."""
    return context is not None and any(
        prompt_request_of([entry], config.prompt_controls, strict=False).prompt
        for entry in context.result
    )


def _report_on_fault(
    request_id: str, project: str | None, task_id: int | None, kind: str, sentence: str
) -> Report:
    """What the journal says of a fault that fails neither the request nor the task."""
    fault = Fault(datetime.now(UTC), request_id, project, task_id, kind, sentence)
    return Report({f"errors.{kind}": 1}, (fault,))


def report_on(
    request: PredictRequest, entries: Sequence[Entry], request_id: str, seconds: float
) -> Report:
    """What the journal says of an answered request."""
    counts = Counter(requests=1, tasks=len(entries))
    faults: list[Fault] = []
    at, project = datetime.now(UTC), project_key(request.project)
    for task, entry in zip(request.tasks, entries, strict=True):
        if "error" in entry:
            kind = entry["error_type"]
            counts.update(["tasks_failed", f"errors.{kind}"])
            faults.append(Fault(at, request_id, project, task.id, kind, entry["error"]))
        else:
            counts["regions"] += len(entry["result"])
    return Report(counts, tuple(faults[:_FAULTS_REPORTED]), seconds, len(entries) == 1)


def report_on_failure(error: PrelabelError, request_id: str) -> Report:
    """What the journal says of a request that failed as a whole."""
    kind = type(error).__name__
    fault = Fault(datetime.now(UTC), request_id, None, None, kind, str(error))
    return Report({"requests_failed": 1, f"errors.{kind}": 1}, (fault,))
