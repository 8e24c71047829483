"""Predictions for some tasks, asked for in requests of a size that the service can answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Final

from prelabel.labelstudio.rest import StoredTask
from prelabel.projects.annotate import Answer, NotNowError, Predict, TooManyTasksError

_SIZE: Final = 8  # tasks in a request
_CONCURRENCY: Final = 4
_PAUSE_S: Final = 3.0


class PatientAsker:
    """Asks the service for predictions, and waits while it cannot answer.

    Args:
        predict: Asks the service once; raises NotNowError and TooManyTasksError.
        patience_s: How long to wait for a service that cannot answer.
    """

    def __init__(self, predict: Predict, patience_s: float) -> None:
        self._predict, self._patience_s = predict, patience_s

    def __call__(self, tasks: Sequence[StoredTask]) -> list[Answer]:
        """Return one answer for each task, in order.

        Raises:
            NotNowError: The service does not answer for longer than the patience.
            TooManyTasksError: The service cannot answer for a single task.
        """
        requests = [tasks[start : start + _SIZE] for start in range(0, len(tasks), _SIZE)]
        with ThreadPoolExecutor(_CONCURRENCY) as executor:
            return list(chain.from_iterable(executor.map(self._answers, requests)))

    def _answers(self, tasks: Sequence[StoredTask]) -> list[Answer]:
        give_up_at = time.monotonic() + self._patience_s
        while True:
            try:
                return self._predict(tasks)
            except TooManyTasksError:
                if len(tasks) == 1:
                    raise
                half = len(tasks) // 2
                return self._answers(tasks[:half]) + self._answers(tasks[half:])
            except NotNowError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(_PAUSE_S)
