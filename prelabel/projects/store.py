"""Predictions on their way into Label Studio: each is stored once, whatever breaks meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from prelabel.labelstudio.bulk import BulkAPI, RefusedPredictionsError
from prelabel.labelstudio.responses import Prediction, mask_bytes
from prelabel.projects.journal import RunJournal

# In one request. Label Studio reads the ids of the whole project for each, and stores up to 500
# predictions together or not at all.
_BATCH: Final = 200
_BATCH_BYTES: Final = 20 * 1024 * 1024  # of masks
_LONGEST_WAIT_S: Final = 5.0  # of a prediction that is not sent yet
_SETTLING_S: Final = 10.0  # in which Label Studio ends what it began for a client that is gone


class PredictionStore:
    """Stores the predictions of one model version, in batches.

    Attributes:
        stored: Number of predictions that Label Studio has stored.
        failed: Number of predictions that it has not taken, or would not take.
        removed: Number of predictions that were replaced.

    Args:
        studio: Label Studio.
        journal: Where tasks are noted before their predictions are sent.
        project: The project's number.
        version: The model version.
        fault_of: Returns the sentence about a prediction that Label Studio would leave out.
    """

    def __init__(
        self,
        studio: BulkAPI,
        journal: RunJournal,
        project: int,
        version: str,
        fault_of: Callable[[Prediction], str | None] = lambda _: None,
    ) -> None:
        self._studio, self._journal = studio, journal
        self._project, self._version = project, version
        self._fault_of = fault_of
        self._pending: dict[int, Prediction] = {}
        self._outdated: dict[int, Sequence[int]] = {}
        self._bytes = 0
        self._waiting_since = time.monotonic()
        self.stored, self.failed, self.removed = 0, 0, 0

    def add(
        self, predictions: Mapping[int, Prediction], outdated: Mapping[int, Sequence[int]]
    ) -> None:
        """Take predictions, to be stored by one of the next calls of `flush_if_due`.

        Args:
            predictions: The predictions by task.
            outdated: The ids of the predictions that they replace, by task.
        """
        if not self._pending:
            self._waiting_since = time.monotonic()
        faults: dict[int, str] = {}
        for task, prediction in predictions.items():
            if fault := self._fault_of(prediction):
                faults[task] = fault
            else:
                self._pending[task] = prediction
                self._outdated[task] = outdated.get(task, ())
                self._bytes += mask_bytes(prediction)
        self._fail(faults)

    def flush_if_due(self) -> None:
        """Store what waits, if it is enough for a batch or waits for long; see `flush`."""
        is_old = time.monotonic() - self._waiting_since > _LONGEST_WAIT_S
        if len(self._pending) >= _BATCH or self._bytes >= _BATCH_BYTES or is_old:
            self.flush()

    def flush(self) -> None:
        """Store all that waits.

        Raises:
            LabelStudioError: Label Studio refuses, or does not answer. A further call continues.
        """
        self.settle_all()
        while self._pending:
            batch = dict(islice(self._pending.items(), _BATCH))
            self._send(batch)
            self._forget(batch)
        self._remove_replaced()
        self._bytes, self._waiting_since = 0, time.monotonic()

    def settle_all(self) -> None:
        """Find out which predictions in doubt are stored, and remove those that they replace.

        Of two predictions of a task, the second one is removed.

        Raises LabelStudioError as `flush` does.
        """
        if in_doubt := self._journal.in_doubt():
            self._settle(in_doubt)
        self._remove_replaced()

    def _settle(self, in_doubt: Sequence[int]) -> None:
        missing = [task for task in in_doubt if not self._is_stored(task)]
        if missing:
            time.sleep(_SETTLING_S)
        stored = set(in_doubt) - {task for task in missing if not self._is_stored(task)}
        self.stored += len(stored & self._pending.keys())
        self._forget(stored)
        self._journal.note_settled(stored, set(in_doubt) - stored)

    def _remove_replaced(self) -> None:
        for prediction in self._journal.replaced():
            self._studio.remove_prediction(prediction)
            self._journal.note_removed(prediction)
            self.removed += 1

    def _send(self, batch: Mapping[int, Prediction]) -> None:
        """Store a batch; note as failed what Label Studio does not take."""
        self._journal.note_sent(batch, self._outdated)
        try:
            created = self._studio.add_predictions(self._project, batch)
        except RefusedPredictionsError as error:
            self._journal.note_settled((), batch)
            if len(batch) == 1:
                self._fail(dict.fromkeys(batch, str(error)))
                return
            items = list(batch.items())
            for part in (items[: len(items) // 2], items[len(items) // 2 :]):
                self._send(dict(part))
            return
        left_out: set[int] = set()
        if created != len(batch):
            left_out = {task for task in batch if not self._is_stored(task)}
            self._fail(dict.fromkeys(left_out, _LEFT_OUT))
        self.stored += len(batch) - len(left_out)
        self._journal.note_settled(set(batch) - left_out, left_out)

    def _fail(self, reasons: dict[int, str]) -> None:
        self._journal.note_failed(reasons)
        self.failed += len(reasons)

    def _forget(self, tasks: Iterable[int]) -> None:
        for task in tasks:
            self._pending.pop(task, None)
            self._outdated.pop(task, None)

    def _is_stored(self, task: int) -> bool:
        """Return True if the task has the new prediction of this version. Remove further ones."""
        outdated = self._journal.outdated_of(task)
        found = [
            prediction
            for prediction in self._studio.predictions_of(task)
            if prediction.model_version == self._version and prediction.id not in outdated
        ]
        for extra in found[1:]:
            self._studio.remove_prediction(extra.id)
        return bool(found)


_LEFT_OUT: Final = (
    "Label Studio left the prediction out, because it does not fit the labeling config of the "
    "moment. If the config was changed during the run, run the command with --retry-failed."
)
