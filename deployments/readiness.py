"""Readiness of the application to answer a predict request, for `/health`."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final, Literal

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from prelabel.concurrency.background import BackgroundTasks
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.service import Readiness

_TIMEOUT_S = 2.0
_MAX_AGE_S = 1.0  # at most one call to the controller per second
# The number of replicas is for people to look at.
_COUNT_EVERY_S, _MAX_COUNT_AGE_S = 5.0, 60.0
_STATUS: Final[dict[ApplicationStatus, Literal["UP", "STARTING", "DOWN"]]] = {
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
        self._background = BackgroundTasks()
        self._count: int | None = None
        self._counted_at = -math.inf
        self._is_counting = False
        self._cache: SingleFlightCache[Readiness] = SingleFlightCache(
            lambda _: 0, max_bytes=1024, max_age_s=_MAX_AGE_S
        )

    async def __call__(self) -> Readiness:
        """Return the readiness; until a detector has run, it is up to a second old.

        The number of replicas is counted behind the answer, for the next one.
        """
        if not self._detector.running_replicas_populated():
            return await self._cache.get(None, self._ask_controller)
        age_s = asyncio.get_running_loop().time() - self._counted_at
        if age_s > _COUNT_EVERY_S and not self._is_counting:
            self._is_counting = True
            name = serve.get_replica_context().app_name
            self._background.start(self._count_detectors(name))
        return Readiness("UP", True, self._count if age_s < _MAX_COUNT_AGE_S else None)

    async def _ask_controller(self) -> Readiness:
        name = serve.get_replica_context().app_name
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                applications = (await asyncio.to_thread(serve.status)).applications
        except (TimeoutError, RayError, RayServeException):
            return Readiness("STARTING", ready=False)
        if name not in applications:
            return Readiness("STARTING", ready=False)
        status = _STATUS.get(applications[name].status, "DOWN")
        return Readiness(status, False, self._running(applications[name]))

    async def _count_detectors(self, name: str) -> None:
        # Without a time-out: a controller that hangs must hold one thread and not one each time.
        try:
            application = (await asyncio.to_thread(serve.status)).applications.get(name)
        except (RayError, RayServeException):
            return
        finally:
            self._is_counting = False
        if application is not None:
            self._count = self._running(application)
            self._counted_at = asyncio.get_running_loop().time()

    def _running(self, application: ApplicationStatusOverview) -> int | None:
        """Return the number of running detectors; None if the application does not list them."""
        detectors = application.deployments.get(self._detector.deployment_name)
        if detectors is None:
            return None
        return sum(n for state, n in detectors.replica_states.items() if state == "RUNNING")
