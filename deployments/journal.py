"""The journal's deployment, and the client that ingress replicas use.

The deployment has one replica, which adds up the counts of all ingress replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ray.serve.handle import DeploymentHandle

from deployments.handles import NoAnswerError, call_within
from deployments.logs import use_serve_log
from prelabel.errors import JournalError
from prelabel.observability.journal import Fault, Journal, Report

_TIMEOUT_S = 5.0


class JournalDeployment:
    """Holds the `Journal`.

    The methods are async because Serve would run sync methods in a thread pool, where concurrent
    calls could lose counts.
    """

    def __init__(self, log_level: str) -> None:
        use_serve_log(log_level)
        self._journal = Journal()

    async def add(self, reports: Sequence[Report]) -> None:
        """Add reports."""
        for report in reports:
            self._journal.add(report)

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        """Return errors, newest first."""
        return self._journal.errors(project, limit)

    async def metrics(self) -> dict[str, float]:
        """Return totals and durations."""
        return self._journal.metrics()


class JournalClient:
    """Calls the journal's deployment. Implements `JournalPort`."""

    def __init__(self, journal: DeploymentHandle[Any]) -> None:
        self._journal = journal

    async def add(self, reports: Sequence[Report]) -> None:
        """Add reports."""
        await self._call(self._journal.add, reports)

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        """Return errors, newest first."""
        return cast("list[Fault]", await self._call(self._journal.errors, project, limit))

    async def metrics(self) -> dict[str, float]:
        """Return totals and durations."""
        return cast("dict[str, float]", await self._call(self._journal.metrics))

    async def _call(self, method: DeploymentHandle[Any], *args: object) -> Any:
        try:
            return await call_within(_TIMEOUT_S, method, *args)
        except NoAnswerError as error:
            raise JournalError(
                "The journal of counts and errors does not answer. Try again in a minute; "
                "`serve status` shows whether its replica runs, and the service's log says why "
                "it does not."
            ) from error
