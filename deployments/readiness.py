"""Readiness of the application to answer a predict, for `/health`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Literal

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from prelabel.concurrency.single_flight import SingleFlightCache

_ANSWERS_WITHIN_S = 2.0
_ASKED_EVERY_S = 1.0
_STATUS: Final[dict[ApplicationStatus, Literal["UP", "STARTING"]]] = {
    ApplicationStatus.RUNNING: "UP",
    ApplicationStatus.DEPLOYING: "STARTING",
    ApplicationStatus.NOT_STARTED: "STARTING",
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """status: UP where a predict is answered, if need be by a detector that starts for it
    (min_replicas: 0); STARTING while the first detector loads; DOWN where it could not be started.
    ready: whether a detector has been running since this ingress started.
    """

    status: Literal["UP", "STARTING", "DOWN"]
    ready: bool


UP: Final = Readiness("UP", ready=True)


class DetectorWatch:
    """Knows the readiness, seen from one ingress. Belongs to one event loop.

    The handle hears of running detectors without a call. Until it has heard of one, the controller
    is asked, which alone can tell a service that starts from one that has scaled to zero.
    """

    def __init__(self, detector: DeploymentHandle[Any]) -> None:
        self._detector = detector
        self._asked: SingleFlightCache[Readiness] = SingleFlightCache(
            lambda _: 0, max_bytes=1024, max_age_s=_ASKED_EVERY_S
        )

    async def __call__(self) -> Readiness:
        """The readiness now; without a detector it is up to a second old."""
        if self._detector.running_replicas_populated():
            return UP
        return await self._asked.get(None, self._ask)

    async def _ask(self) -> Readiness:
        name = serve.get_replica_context().app_name
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                applications = (await asyncio.to_thread(serve.status)).applications
        except (TimeoutError, RayError, RayServeException):
            return Readiness("STARTING", ready=False)
        if name not in applications:
            return Readiness("STARTING", ready=False)
        return Readiness(_STATUS.get(applications[name].status, "DOWN"), ready=False)
