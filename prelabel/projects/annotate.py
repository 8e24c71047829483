"""A prediction for every task of a project, exactly once.

Tasks are read in the order of their ids, predicted in requests that run beside each other, and the
predictions are stored in batches. Label Studio itself knows which tasks are left; the journal knows
which ones are in doubt after a crash.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from prelabel.errors import PrelabelError
from prelabel.labelstudio.bulk import BulkAPI, Filters
from prelabel.labelstudio.http import UnreachableError
from prelabel.labelstudio.responses import Prediction, TaskError
from prelabel.labelstudio.rest import StoredTask
from prelabel.projects.journal import RunJournal
from prelabel.projects.store import PredictionStore

_PAGE: Final = 200  # tasks in a page of Label Studio's
_REQUEST_S: Final = 10.0  # wanted duration of a request: a tenth of what the service allows
_FIRST_SIZE, _GREATEST_SIZE = 8, 200  # tasks in a request
_LONGEST_PAUSE_S: Final = 30.0
# Faults of the moment, by their names in the service's answers.
_TEMPORARY: Final = ("OverloadedError", "DeadlineError", "PromptMemoryError")
_NOT_FETCHED: Final = "ImageFetchError"

ResultT = TypeVar("ResultT")
Answer = TaskError | Prediction
Predict = Callable[[Sequence[StoredTask]], list[Answer]]


class AnnotateError(PrelabelError):
    """The run cannot continue. Another run continues after the predictions that are stored."""


class NotNowError(PrelabelError):
    """The service cannot answer this request now. It may later."""


class TooManyTasksError(PrelabelError):
    """The service cannot answer this request. It may answer one of fewer tasks."""


@dataclass(frozen=True, slots=True)
class Target:
    """The tasks of a run.

    Attributes:
        project: The project's number.
        version: The model version of the predictions.
        filters: Filters of the Data Manager that the tasks have to fit.
    """

    project: int
    version: str
    filters: Filters


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run.

    Attributes:
        total: Number of tasks without a prediction when the run began.
        done: Tasks whose predictions are stored.
        failed: Tasks that get none.
        waiting_for: Sentence about a fault that the run waits out; None while it works.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    waiting_for: str | None = None


@dataclass(frozen=True, slots=True)
class _Answered:
    answers: list[Answer]
    took_s: float


Flights = dict[Future[_Answered], list[StoredTask]]


class AnnotateRun:
    """One run over a project.

    Args:
        studio: Label Studio.
        predict: Asks the service for predictions; raises NotNowError and TooManyTasksError.
        journal: The run's journal.
        target: The tasks.
        concurrency: Greatest number of requests at a time.
        patience_s: Longest time without any progress.
        observe: Called with the progress whenever it changes.
    """

    def __init__(
        self,
        studio: BulkAPI,
        predict: Predict,
        journal: RunJournal,
        target: Target,
        *,
        concurrency: int,
        patience_s: float,
        observe: Callable[[Progress], None],
    ) -> None:
        self._studio, self._predict, self._journal, self._target = studio, predict, journal, target
        self._concurrency, self._limit = concurrency, 1.0 * concurrency
        self._patience_s, self._observe = patience_s, observe
        self._store = PredictionStore(studio, journal, target.project, target.version)
        self._queue: deque[StoredTask] = deque()
        self._after, self._is_read = 0, False
        self._size = 1.0 * _FIRST_SIZE
        self._total, self._failed, self._pauses = 0, 0, 0
        self._progressed_at = time.monotonic()
        self._is_stopping = False

    @property
    def progress(self) -> Progress:
        """The state now."""
        return Progress(self._total, self._store.stored, self._failed + self._store.failed)

    def run(self) -> Progress:
        """Predict and store until no task is left.

        Ctrl-C ends the run after the open requests; a second one ends it at once.

        Raises:
            AnnotateError: There is no progress any more, or the service changed its model version.
            LabelStudioError: Label Studio refuses.
        """
        self._patiently(self._store.settle_all)
        executor = ThreadPoolExecutor(self._concurrency)
        flights: Flights = {}
        try:
            while self._step(executor, flights):
                pass
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            self._patiently(self._store.flush)
        self._observe(self.progress)
        return self.progress

    def _step(self, executor: ThreadPoolExecutor, flights: Flights) -> bool:
        """Send requests and take answers. Return False when all are taken."""
        try:
            if not self._fly(executor, flights):
                return False
            self._land(flights)
        except KeyboardInterrupt:
            if self._is_stopping:
                raise
            self._is_stopping = True
        return True

    def _fly(self, executor: ThreadPoolExecutor, flights: Flights) -> bool:
        """Send requests while there are tasks and room. Return False if none is open."""
        while not self._is_stopping and len(flights) < int(self._limit):
            tasks = self._next_tasks()
            if not tasks:
                break
            flights[executor.submit(self._timed, tasks)] = tasks
        return bool(flights)

    def _land(self, flights: Flights) -> None:
        """Wait for a request and take its answers."""
        landed, _ = wait(flights, return_when=FIRST_COMPLETED)
        for future in landed:
            tasks = flights.pop(future)
            try:
                answered = future.result()
            except TooManyTasksError as error:
                self._split(tasks, str(error))
            except NotNowError as error:
                self._wait_for_service(tasks, str(error))
            else:
                self._adapt_size(len(tasks), answered.took_s)
                self._take(tasks, answered.answers)
        self._patiently(self._store.flush_if_due)
        self._observe(self.progress)

    def _next_tasks(self) -> list[StoredTask]:
        while len(self._queue) < int(self._size) and not self._is_read:
            self._read_page()
        return [self._queue.popleft() for _ in range(min(int(self._size), len(self._queue)))]

    def _read_page(self) -> None:
        target = self._target
        page = self._patiently(
            lambda: self._studio.tasks_without(
                target.project,
                target.version,
                after=self._after,
                count=_PAGE,
                filters=target.filters,
            )
        )
        if not self._total:
            self._total = page.remaining
        failed = self._journal.failed_among(task.id for task in page.tasks)
        self._failed += len(failed)
        self._queue.extend(task for task in page.tasks if task.id not in failed)
        self._is_read = not page.tasks
        if page.tasks:
            self._after = page.tasks[-1].id

    def _timed(self, tasks: Sequence[StoredTask]) -> _Answered:
        started_at = time.monotonic()
        return _Answered(self._predict(tasks), time.monotonic() - started_at)

    def _adapt_size(self, count: int, took_s: float) -> None:
        if count >= int(self._size) / 2:  # the last request of a page says little
            change = min(2.0, max(0.5, _REQUEST_S / max(took_s, 1e-3)))
            self._size = min(_GREATEST_SIZE, max(1.0, count * change))

    def _take(self, tasks: Sequence[StoredTask], answers: Sequence[Answer]) -> None:
        predicted: dict[int, Prediction] = {}
        refused: dict[int, str] = {}
        postponed: list[StoredTask] = []
        is_down = self._is_label_studio_down(answers)
        for task, answer in zip(tasks, answers, strict=True):
            if "error" not in answer:
                predicted[task.id] = answer
            elif answer["error_type"] in _TEMPORARY or (
                is_down and answer["error_type"] == _NOT_FETCHED
            ):
                postponed.append(task)
                fault = answer["error"]
            else:
                refused[task.id] = answer["error"]
        versions = {each["model_version"] for each in predicted.values()}
        if changed := versions - {self._target.version}:
            raise AnnotateError(
                f"The service answers with model version {changed.pop()} now, not with "
                f"{self._target.version}. Run the command again to annotate with the new one."
            )
        self._store.add(predicted)
        self._fail(refused)
        if predicted or refused:
            self._note_progress()
        if postponed:
            self._wait_for_service(postponed, fault)

    def _is_label_studio_down(self, answers: Sequence[Answer]) -> bool:
        """Return True if pictures did not arrive and Label Studio, which serves many, is down."""
        if not any("error" in each and each["error_type"] == _NOT_FETCHED for each in answers):
            return False
        try:
            self._studio.version()
        except UnreachableError:
            return True
        return False

    def _fail(self, reasons: dict[int, str]) -> None:
        self._journal.note_failed(reasons)
        self._failed += len(reasons)

    def _split(self, tasks: Sequence[StoredTask], fault: str) -> None:
        if len(tasks) == 1:
            self._fail({tasks[0].id: fault})
            self._note_progress()
            return
        self._size = max(1.0, len(tasks) / 2)
        self._queue.extendleft(reversed(tasks))

    def _wait_for_service(self, tasks: Sequence[StoredTask], fault: str) -> None:
        self._queue.extendleft(reversed(tasks))
        self._limit = max(1.0, self._limit / 2)
        self._pause(fault, self._progressed_at)

    def _note_progress(self) -> None:
        self._pauses, self._progressed_at = 0, time.monotonic()
        self._limit = min(self._concurrency, self._limit + 1 / self._limit)

    def _pause(self, fault: str, since: float) -> None:
        if time.monotonic() - since > self._patience_s:
            raise AnnotateError(
                f"There was no progress for {self._patience_s / 60:.0f} minutes. {fault} Run the "
                "command again to continue."
            )
        self._observe(replace(self.progress, waiting_for=fault))
        time.sleep(min(2.0**self._pauses, _LONGEST_PAUSE_S))
        self._pauses += 1

    def _patiently(self, call: Callable[[], ResultT]) -> ResultT:
        """Return the call's result; try again while Label Studio does not answer."""
        started_at = time.monotonic()
        while True:
            try:
                return call()
            except UnreachableError as error:
                self._pause(str(error), started_at)
                self._progressed_at = time.monotonic()  # the service does not answer for this
