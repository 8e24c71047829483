"""One run over an input: items that are not done yet are predicted, and stored as they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Protocol, TypeVar

from prelabel.errors import PrelabelError
from prelabel.offline.items import InputError, Item, Source
from prelabel.offline.predictor import Failure, Row
from prelabel.offline.results import ResultFolder

_IN_FLIGHT: Final = 3  # chunks: one ends, one runs, and one is prepared
_LISTED: Final = 256  # items that are looked up at a time
# So many pictures in a row that do not arrive are a fault of the network or of the storage.
_UNFETCHED_IN_A_ROW: Final = 100

ValueT = TypeVar("ValueT")


class RunError(PrelabelError):
    """The run cannot continue. Another run continues after the rows that are stored."""


class PredictorPort(Protocol):
    """Predicts items."""

    @property
    def fails(self) -> bool:
        """True if the model failed on all of the last batches."""

    def predict(self, items: Sequence[Item]) -> Future[list[Row | Failure]]:
        """Start the predictions of items."""


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run.

    Attributes:
        total: Items that were left when the run began, as far as they are counted.
        done: Items whose rows are stored by this run.
        failed: Items that failed in this run.
        listed: Items of the input that were read.
        waiting_for: Always None: a run does not wait.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    listed: int = 0
    waiting_for: str | None = None


class OfflineRun:
    """One run.

    Args:
        source: The input.
        predictor: Predicts items.
        results: The output.
        chunk: Items that are sent to the predictor at a time.
        observe: Called with the progress whenever it changes.
    """

    def __init__(
        self,
        source: Source,
        predictor: PredictorPort,
        results: ResultFolder,
        *,
        chunk: int,
        observe: Callable[[Progress], None],
    ) -> None:
        self._source, self._predictor, self._results = source, predictor, results
        self._chunk, self._observe = chunk, observe
        self._progress = Progress()
        self._unfetched: list[Failure] = []  # in a row, up to now
        self._counted = 0

    def run(self) -> Progress:
        """Predict all items that are left. Return the progress at the end.

        Raises:
            InputError: The input cannot be read.
            OutputError: The output cannot be written.
            RunError: The model fails, or no picture arrives.
        """
        before = sum(self._results.counts())
        counting = threading.Thread(target=self._count, args=(before,), daemon=True)
        counting.start()
        flights: deque[Future[list[Row | Failure]]] = deque()
        for chunk in _batches(self._left(), self._chunk):
            flights.append(self._predictor.predict(chunk))
            if len(flights) >= _IN_FLIGHT:
                self._store(flights.popleft().result())
        while flights:
            self._store(flights.popleft().result())
        self._add([], self._unfetched)
        self._results.end_shard()
        return self._progress

    def _left(self) -> Iterator[Item]:
        """Yield the items that have no row yet and have not failed; store their faults."""
        in_progress: dict[str, None] = {}
        for items in _batches(self._source.items(), _LISTED):
            known = self._results.known([item.key for item in items])
            faults = []
            self._progress = replace(self._progress, listed=self._progress.listed + len(items))
            for item, is_known in zip(items, known, strict=True):
                if is_known or item.key in in_progress:
                    continue
                in_progress[item.key] = None
                if item.fault is not None:
                    faults.append(Failure(item.key, item.fault))
                else:
                    yield item
            self._add([], faults)
            # Older ones are stored: at most the chunks in flight are not.
            most = _LISTED + (_IN_FLIGHT + 1) * self._chunk + len(self._unfetched)
            for key in list(islice(in_progress, max(0, len(in_progress) - most))):
                del in_progress[key]

    def _store(self, outcomes: Sequence[Row | Failure]) -> None:
        rows: list[Row] = []
        failures: list[Failure] = []
        for outcome in outcomes:
            if isinstance(outcome, Failure) and outcome.is_unfetched:
                self._unfetched.append(outcome)
                continue
            failures += self._unfetched
            self._unfetched = []
            if isinstance(outcome, Row):
                rows.append(outcome)
            else:
                failures.append(outcome)
        self._add(rows, failures)
        if self._predictor.fails:
            raise RunError(
                "The model failed on the last batches. The log above has the cause. Run the same "
                "command again to continue."
            )
        if len(self._unfetched) >= _UNFETCHED_IN_A_ROW:
            raise RunError(
                f"The last {len(self._unfetched)} pictures did not arrive: "
                f"{self._unfetched[-1].reason} Run the same command again to continue."
            )

    def _add(self, rows: Sequence[Row], failures: Sequence[Failure]) -> None:
        if rows or failures:
            self._results.add(rows, failures)
        self._progress = replace(
            self._progress,
            total=self._counted,
            done=self._progress.done + len(rows),
            failed=self._progress.failed + len(failures),
        )
        self._observe(self._progress)

    def _count(self, before: int) -> None:
        """Count the items that are left, beside the run."""
        try:
            for number, _ in enumerate(self._source.items(), start=1):
                self._counted = max(0, number - before)
        except InputError:
            return  # the run itself says so


def _batches(values: Iterator[ValueT], size: int) -> Iterator[list[ValueT]]:
    while batch := list(islice(values, size)):
        yield batch
