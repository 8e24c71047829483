"""What all ingress replicas report to. One replica, so that there is one sum."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.logs import use_serve_log
from prelabel.observability.journal import Fault, Journal, Report


class JournalKeeper:
    """See Journal. Asynchronous, for Serve runs other methods in threads: a sum of two at a time
    would lose one, and errors cannot be read while one is added.
    """

    def __init__(self, log_level: str) -> None:
        use_serve_log(log_level)
        self._journal = Journal()

    async def note(self, reports: Sequence[Report]) -> None:
        """Add reports."""
        for report in reports:
            self._journal.note(report)

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        """The newest errors first."""
        return self._journal.errors(project, limit)

    async def metrics(self) -> dict[str, float]:
        """Counts and times."""
        return self._journal.metrics()
