"""Readiness of the application to answer a predict request, for `/health`."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.service import Readiness

_TIMEOUT_S = 2.0
_MAX_AGE_S = 1.0  # at most one call to the controller per second
_STATUS: Final[dict[ApplicationStatus, Literal["UP", "STARTING"]]] = {
    ApplicationStatus.RUNNING: "UP",
    ApplicationStatus.DEPLOYING: "STARTING",
    ApplicationStatus.NOT_STARTED: "STARTING",
}


class DetectorWatch:
    """Determines the readiness as one ingress replica sees it. Belongs to one event loop.

    The detector's handle learns of running replicas without a call. Until the handle knows of a
    replica, the status comes from Serve's controller, which alone can distinguish a service that
    starts from a service that has scaled to zero.
    """

    def __init__(self, detector: DeploymentHandle[Any]) -> None:
        self._detector = detector
        self._cache: SingleFlightCache[Readiness] = SingleFlightCache(
            lambda _: 0, max_bytes=1024, max_age_s=_MAX_AGE_S
        )

    async def __call__(self) -> Readiness:
        """Return the readiness; until a detector has run, it is up to a second old."""
        if self._detector.running_replicas_populated():
            return Readiness("UP", ready=True)
        return await self._cache.get(None, self._ask_controller)

    async def _ask_controller(self) -> Readiness:
        name = serve.get_replica_context().app_name
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                applications = (await asyncio.to_thread(serve.status)).applications
        except (TimeoutError, RayError, RayServeException):
            return Readiness("STARTING", ready=False)
        if name not in applications:
            return Readiness("STARTING", ready=False)
        return Readiness(_STATUS.get(applications[name].status, "DOWN"), ready=False)
