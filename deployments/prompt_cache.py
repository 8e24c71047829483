"""What is remembered for projects, at hand in an ingress: a call less for each request."""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import Context
from typing import Any, cast

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.handles import call
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.errors import DetectionError, OverloadedError, PromptMemoryError
from prelabel.types import ProjectPrompts

logger = logging.getLogger(__name__)

_LONGEST_PROMPT_BYTES = 40_000  # two prompts of 4096 characters, as Python keeps them
_BYTES = 8 * 1024 * 1024
_RECALLED_FOR_S = 600.0  # then the store is told that the project is still in use
_ANSWER_S = 30.0  # the store answers a watcher after some seconds, change or none
_PAUSE_S = 1.0
_ANSWERS_WITHIN_S = 2.0
_STARTS_WITHIN_S = 10.0  # until the store was heard of for the first time, it may be starting
_AWAY_S = 5.0  # without hearing of a store that was away, requests do not wait for it
_AWAY = (
    "The store of remembered prompts does not answer. The service's log says why; `serve status` "
    "shows whether its replica runs."
)


class Recall:
    """What the store remembers, kept while its changes are heard of. All in one event loop.

    A store that does not answer costs one request a wait of seconds; then the others are told at
    once, until it is heard of again.
    """

    def __init__(self, store: DeploymentHandle[Any]) -> None:
        self._store = store
        self.kept: SingleFlightCache[ProjectPrompts] = SingleFlightCache(
            lambda _: _LONGEST_PROMPT_BYTES, max_bytes=_BYTES, max_age_s=_RECALLED_FOR_S
        )
        self._watching: asyncio.Task[None] | None = None
        self._hears = False
        self._was_heard = False
        self._away_until = 0.0

    async def __call__(self, project: str) -> ProjectPrompts:
        """What is remembered for a project. Where no changes are heard of, the store is asked.

        Raises PromptMemoryError where the store, or its memory, cannot be used.
        """

        async def recall() -> ProjectPrompts:
            return cast("ProjectPrompts", await self.ask(self._store.recall, project))

        if self._watching is None or self._watching.done():
            self._hears = False
            # Not in the context of the request that happens to be the first.
            self._watching = asyncio.create_task(self._watch(), context=Context())
        return await (self.kept.get(project, recall) if self._hears else recall())

    async def ask(self, method: DeploymentHandle[Any], *args: object) -> Any:
        """Call a method of the store. Raises PromptMemoryError, also where it does not answer."""
        if time.monotonic() < self._away_until:
            raise PromptMemoryError(_AWAY)
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S if self._was_heard else _STARTS_WITHIN_S):
                return await call(method, *args)
        except (
            *(TimeoutError, RayError, RayServeException),
            *(DetectionError, OverloadedError),  # what `call` makes of a store that goes
        ) as error:
            logger.error("the store of prompts does not answer: %s", type(error).__name__)
            self._away_until = time.monotonic() + _AWAY_S
            raise PromptMemoryError(_AWAY) from error

    def forget(self) -> None:
        """Ask anew: something was changed from here."""
        self.kept.clear()

    async def _watch(self) -> None:
        seen: str | None = None
        while True:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    state: str = await self._store.watch.remote(seen)
            except (RayError, RayServeException, TimeoutError) as error:
                logger.warning("the prompt store is not heard of: %s", type(error).__name__)
                self._hears, seen = False, None
                await asyncio.sleep(_PAUSE_S)
                continue
            if state != seen:
                self.kept.clear()
            self._hears, seen = True, state
            self._was_heard, self._away_until = True, 0.0
