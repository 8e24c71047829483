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

from prelabel.errors import (
    DeadlineError,
    PayloadTooLargeError,
    PrelabelError,
    PromptMemoryError,
    RequestError,
)
from prelabel.journal import Fault, Report
from prelabel.labelstudio.labeling_config import LabelingConfig, parse_labeling_config
from prelabel.labelstudio.protocol import (
    BadTask,
    Context,
    Prediction,
    PredictRequest,
    Task,
    TaskError,
    asked_in,
    project_key,
)
from prelabel.labelstudio.results import to_prediction, to_task_error
from prelabel.planning import Wishes, plan_task
from prelabel.settings import AppSettings
from prelabel.tracing import Tracer
from prelabel.turns import FairTurns, afterwards, all_or_none
from prelabel.types import Asked, DetectionQuery, Detections, LookPlan, TaskPlan

logger = logging.getLogger(__name__)

_FAULTS_REPORTED = 100  # of a request: the journal would hold nothing else soon
_MOST_PICTURES = 20_000  # of one request
_PICTURES_AT_ONCE = 8  # of an annotator's task, so that no task has all threads that fetch

Entry = Prediction | TaskError


@dataclass(frozen=True, slots=True)
class Steps:
    """What a request needs done. recall: what is remembered for a project, by its key; fetch: a
    picture's bytes, by its address and the task's id; note: puts a report into the journal.
    """

    recall: Callable[[str], Awaitable[Asked]]
    fetch: Callable[[str, int | None], Awaitable[bytes]]
    detect: Callable[[DetectionQuery], Awaitable[Detections]]
    postprocess: Callable[[TaskPlan, Sequence[Detections]], Awaitable[Prediction]]
    note: Callable[[Report], None] = lambda _: None


@dataclass(slots=True, eq=False)
class _Run:
    """A request being worked on: by whose turns, and before others or not.

    planning: held by the task that is being planned; pictures: of the tasks that were.
    """

    id: str
    turns: FairTurns
    urgent: bool
    planning: asyncio.Lock = field(default_factory=asyncio.Lock)
    pictures: int = 0


class Predictor:
    """Answers predict requests. All tasks of a request are worked on concurrently."""

    def __init__(
        self,
        settings: AppSettings,
        model_version: str,
        steps: Steps,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._tracer = tracer or Tracer()
        self._model_version = model_version
        self._steps = steps
        self._bulk = FairTurns(settings.task_concurrency)  # of all bulk requests together
        self._recalling: set[asyncio.Task[Asked]] = set()  # the loop itself does not keep them

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
        turns = FairTurns(at_once) if urgent else self._bulk
        run = _Run(request_id, turns, urgent)
        ground = asyncio.create_task(self._ground(request, request_id))

        async def entry(task: Task | BadTask) -> Entry:
            try:
                with self._tracer.span("task", task_id=task.id):
                    async with asyncio.timeout_at(deadline):
                        if isinstance(task, BadTask):
                            raise RequestError(
                                f"This is no task of Label Studio's form ({task.fault}). "
                                "Correct it."
                            )
                        config, remembered = await asyncio.shield(ground)
                        async with run.planning:
                            await asyncio.sleep(0)  # others, and the deadline, get in between
                            plan = self._plan(task, request.context, remembered, config, run)
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
    ) -> tuple[LabelingConfig, Asked]:
        """What all tasks of a request share."""
        project = project_key(request.project)
        config = parse_labeling_config(request.label_config, self._settings.max_labels)
        if project is None or not self._settings.remember_prompts:
            return config, Asked()
        recalling = asyncio.create_task(self._recall(project, request_id))
        if _needs_no_memory(request.context, config):
            # Still recalled, beside the answer: a project's submits count from then on.
            self._recalling.add(recalling)
            recalling.add_done_callback(self._recalling.discard)
            return config, Asked()
        return config, await recalling

    async def _recall(self, project: str, request_id: str) -> Asked:
        """What is remembered for a project; nothing, and a fault in the journal, where that cannot
        be told: predictions do not depend on the memory.
        """
        try:
            return await self._steps.recall(project)
        except PromptMemoryError as error:
            kind, now = type(error).__name__, datetime.now(UTC)
            logger.warning("project %s: %s: %s (request %s)", project, kind, error, request_id)
            fault = Fault(now, request_id, project, None, kind, str(error))
            self._steps.note(Report({f"errors.{kind}": 1}, (fault,)))
            return Asked()

    def _plan(
        self,
        task: Task,
        context: Context | None,
        remembered: Asked,
        config: LabelingConfig,
        run: _Run,
    ) -> TaskPlan:
        with self._tracer.span("plan"):
            config = config.for_task(task.data)
            wishes = Wishes.of(task, context, remembered, config)
            plan = plan_task(task, config, wishes, self._settings)
        run.pictures += len(plan.looks)
        if run.pictures > _MOST_PICTURES:
            raise RequestError(
                f"The request's tasks have more than {_MOST_PICTURES} pictures. Select fewer tasks."
            )
        return plan

    async def _predict_task(self, task: Task, plan: TaskPlan, run: _Run) -> Prediction:
        found = await all_or_none(self._look(look, task.id, run) for look in plan.looks)
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


def _needs_no_memory(context: Context | None, config: LabelingConfig) -> bool:
    """Whether what was typed leaves nothing open that a submit could have said."""
    if context is None:
        return False
    typed = asked_in(context.result, config.ask_controls, strict=False)
    thresholds = (typed.box_threshold, typed.text_threshold)
    return typed.prompt is not None and (not config.has_thresholds or None not in thresholds)


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
