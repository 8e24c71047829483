"""Counts a service's running detectors, beside a run that shows them."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from prelabel.cli.service_client import ServiceClient, ServiceError

_EVERY_S: Final = 10.0


class DetectorWatch:
    """Asks the service for the number of its detectors now and then, in a thread of its own.

    Args:
        client: The service.
        detectors: The number at the start; None if the service does not know it.
    """

    def __init__(self, client: ServiceClient, detectors: int | None) -> None:
        self._client, self._detectors = client, detectors
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()

    def text(self) -> str:
        """Return the number with its noun; nothing while it is not known."""
        count = self._detectors
        if count is None:
            return ""
        return "1 detector" if count == 1 else f"{count} detectors"

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                self._detectors = self._client.health().detectors
            except ServiceError:
                self._detectors = None
