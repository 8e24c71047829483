"""A prediction for every task of a project, exactly once.

Tasks are read in the order of their ids, predicted in requests that run beside each other, and the
predictions are stored in batches. Label Studio itself knows which tasks are left; the journal knows
which ones are in doubt after a crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from prelabel.errors import PrelabelError
from prelabel.labelstudio.bulk import BulkAPI, TaskPage
from prelabel.labelstudio.data_manager import Filters
from prelabel.labelstudio.http import UnreachableError
from prelabel.labelstudio.responses import Prediction, TaskError, picture_hashes
from prelabel.labelstudio.rest import StoredTask
from prelabel.projects.journal import RunJournal
from prelabel.projects.older_predictions import OlderPredictions
from prelabel.projects.store import PredictionStore
from prelabel.projects.task_queue import TaskQueue

_REQUEST_S: Final = 10.0  # wanted duration of a request: a tenth of what the service allows
_FIRST_SIZE, _GREATEST_SIZE = 8, 200  # tasks in a request
_LONGEST_PAUSE_S: Final = 30.0
# Before pictures that did not arrive are tried again: the first pause, its growth, the longest.
_PICTURE_PAUSE_S, _PICTURE_PAUSE_GROWTH, _LONGEST_PICTURE_PAUSE_S = 5.0, 3.0, 120.0
# Sum of the pauses for pictures on which their server fails with status 500. Label Studio 1.23 does
# for an upload that it does not know, and cloud storage for a moment.
_FAILING_PICTURE_S: Final = 20.0
# Faults of the moment, by their names in the service's answers.
_TEMPORARY: Final = ("OverloadedError", "DeadlineError", "PromptMemoryError")
_FAILS_ON_PICTURE: Final = "ImageServerError"
_UNAVAILABLE: Final = ("ImageUnavailableError", "NoTokenNowError", _FAILS_ON_PICTURE)
_NOT_FETCHED: Final = ("ImageFetchError", *_UNAVAILABLE)
_PROMPT_FAULT: Final = "PromptError"

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
        request: The run's own prompt and thresholds as a text; empty without any.
        renews: Tasks that have a prediction of this version get a new one instead, unless it comes
            from the same request.
        older: Model versions of this backend whose predictions are removed from tasks with a new
            one.
    """

    project: int
    version: str
    filters: Filters
    request: str = ""
    renews: bool = False
    older: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run.

    Attributes:
        total: Number of tasks without a prediction when the run began.
        done: Tasks whose predictions are stored.
        failed: Tasks that get none.
        removed: Older predictions that were removed.
        waiting_for: Sentence about a fault that the run waits out; None while it works.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    removed: int = 0
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
        fault_of: Returns the sentence about a prediction that Label Studio would leave out.
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
        fault_of: Callable[[Prediction], str | None] = lambda _: None,
    ) -> None:
        self._studio, self._predict, self._journal, self._target = studio, predict, journal, target
        self._concurrency, self._limit = concurrency, 1.0 * concurrency
        self._patience_s, self._observe = patience_s, observe
        self._store = PredictionStore(studio, journal, target.project, target.version, fault_of)
        self._older = OlderPredictions(
            studio, target.project, target.version, target.older, target.filters
        )
        self._queue = TaskQueue(self._read_page, self._has_failed, self._is_done)
        self._size = 1.0 * _FIRST_SIZE
        self._failed, self._pauses = 0, 0
        self._postponed, self._postponed_for = 0, ""
        self._awaits_servers = False  # of the postponed pictures, some have servers that are away
        self._picture_pauses_s: list[float] = []  # since the last progress
        self._progressed_at = time.monotonic()
        self._is_stopping = False

    @property
    def progress(self) -> Progress:
        """The state now."""
        return Progress(
            self._queue.total,
            self._store.stored,
            self._queue.failed + self._failed + self._store.failed,
            self._store.removed + self._older.removed,
        )

    def run(self) -> Progress:
        """Predict and store until no task is left.

        Ctrl-C ends the run after the open requests; a second one ends it at once.

        Raises:
            AnnotateError: There is no progress any more, or the service changed its model version.
            LabelStudioError: Label Studio refuses.
        """
        self._patiently(self._store.settle_all)  # what a run with another prompt may have left
        self._journal.begin(self._target.request)
        self._journal.forget_postponed()
        executor = ThreadPoolExecutor(self._concurrency)
        flights: Flights = {}
        try:
            while self._step(executor, flights):
                pass
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            self._patiently(self._store.flush)
        if not self._is_stopping:  # else they are left for the next run
            self._failed += self._postponed
            self._patiently(lambda: self._older.remove(lambda: self._observe(self.progress)))
        self._observe(self.progress)
        return self.progress

    def _step(self, executor: ThreadPoolExecutor, flights: Flights) -> bool:
        """Send requests and take answers. Return False when all are taken."""
        try:
            if self._fly(executor, flights):
                self._land(flights)
            else:
                return self._rewind()
        except KeyboardInterrupt:
            if self._is_stopping:
                raise
            self._is_stopping = True
        return True

    def _fly(self, executor: ThreadPoolExecutor, flights: Flights) -> bool:
        """Send requests while there are tasks and room. Return False if none is open."""
        while not self._is_stopping and len(flights) < int(self._limit):
            tasks = self._queue.take(int(self._size))
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

    def _rewind(self) -> bool:
        """Begin again with the tasks whose pictures may arrive now. Return False if none are left.

        Pauses before, for longer each time, and not for longer than the run is patient.
        """
        most_s = self._patience_s
        if not self._awaits_servers:
            most_s = min(most_s, _FAILING_PICTURE_S)
        pause_s = min(
            _LONGEST_PICTURE_PAUSE_S,
            _PICTURE_PAUSE_S * _PICTURE_PAUSE_GROWTH ** len(self._picture_pauses_s),
        )
        is_patient = sum(self._picture_pauses_s) + pause_s <= most_s
        if not self._postponed or self._is_stopping or not is_patient:
            return False
        self._patiently(self._store.flush)  # else the tasks that wait in it would be read again
        fault = f"Tasks whose pictures did not arrive: {self._postponed}. {self._postponed_for}"
        self._observe(replace(self.progress, waiting_for=fault))
        time.sleep(pause_s)
        self._picture_pauses_s.append(pause_s)
        self._journal.forget_postponed()
        self._postponed, self._awaits_servers = 0, False
        self._queue.rewind()
        return True

    def _read_page(self, after: int, count: int) -> TaskPage:
        target, studio = self._target, self._studio
        place = {"after": after, "count": count}
        if target.renews:
            return self._patiently(
                lambda: studio.tasks_of(target.project, filters=target.filters, **place)
            )
        return self._patiently(
            lambda: studio.tasks_without(
                target.project, target.version, filters=target.filters, **place
            )
        )

    def _has_failed(self, tasks: Sequence[StoredTask]) -> set[int]:
        return self._journal.failed_among(task.id for task in tasks)

    def _is_done(self, tasks: Sequence[StoredTask]) -> set[int]:
        """Return the tasks that have this run's prediction; only of a renewal others are read."""
        if not self._target.renews:
            return set()
        return self._journal.made_among(task.id for task in tasks if self._outdated_by(task))

    def _outdated_by(self, task: StoredTask) -> list[int]:
        """Return the predictions that a new one of the task replaces."""
        if not self._target.renews:
            return []
        version = self._target.version
        return [each.id for each in task.predictions or () if each.model_version == version]

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
        later: dict[int, str] = {}
        postponed: list[StoredTask] = []
        is_down = self._is_label_studio_down(answers)
        for task, answer in zip(tasks, answers, strict=True):
            if "error" not in answer:
                predicted[task.id] = answer
            elif answer["error_type"] in _TEMPORARY or (
                is_down and answer["error_type"] in _NOT_FETCHED
            ):
                postponed.append(task)
                fault = answer["error"]
            elif answer["error_type"] in _UNAVAILABLE:
                later[task.id] = answer["error"]
                self._awaits_servers |= answer["error_type"] != _FAILS_ON_PICTURE
            else:
                refused[task.id] = answer["error"]
        self._check_prompt(answers)
        versions = {each["model_version"] for each in predicted.values()}
        if changed := versions - {self._target.version}:
            raise AnnotateError(
                f"The service answers with model version {changed.pop()} now, not with "
                f"{self._target.version}. Run the command again to annotate with the new one."
            )
        self._journal.note_pictures(
            {task: picture_hashes(prediction) for task, prediction in predicted.items()}
        )
        self._store.add(predicted, {task.id: self._outdated_by(task) for task in tasks})
        self._fail(refused)
        self._postpone(later)
        if predicted or refused:
            self._note_progress()
        if postponed:
            self._wait_for_service(postponed, fault)

    def _check_prompt(self, answers: Sequence[Answer]) -> None:
        """End a run whose own prompt fits none of its tasks."""
        if not self._target.request or self._store.stored:
            return
        faults = [each["error"] for each in answers if "error" in each]
        kinds = {each["error_type"] for each in answers if "error" in each}
        if kinds == {_PROMPT_FAULT} and len(faults) == len(answers):
            raise AnnotateError(faults[0])

    def _is_label_studio_down(self, answers: Sequence[Answer]) -> bool:
        """Return True if pictures did not arrive and Label Studio, which serves many, is down."""
        if not any("error" in each and each["error_type"] in _NOT_FETCHED for each in answers):
            return False
        try:
            self._studio.version()
        except UnreachableError:
            return True
        return False

    def _fail(self, reasons: dict[int, str]) -> None:
        self._journal.note_failed(reasons)
        self._failed += len(reasons)

    def _postpone(self, reasons: dict[int, str]) -> None:
        """Leave tasks for the end of the run, because their pictures' servers are away."""
        if reasons:
            self._journal.note_postponed(reasons)
            self._postponed += len(reasons)
            self._postponed_for = next(iter(reasons.values()))

    def _split(self, tasks: Sequence[StoredTask], fault: str) -> None:
        if len(tasks) == 1:
            self._fail({tasks[0].id: fault})
            self._note_progress()
            return
        self._size = max(1.0, len(tasks) / 2)
        self._queue.put_back(tasks)

    def _wait_for_service(self, tasks: Sequence[StoredTask], fault: str) -> None:
        self._queue.put_back(tasks)
        self._limit = max(1.0, self._limit / 2)
        self._pause(fault, self._progressed_at)

    def _note_progress(self) -> None:
        self._pauses, self._progressed_at = 0, time.monotonic()
        self._picture_pauses_s.clear()
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
