"""The remembered prompts in an ingress replica, cached while their changes are watched."""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import Context
from datetime import datetime
from typing import Any, cast

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.handles import NoAnswerError, call_within
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.errors import PromptMemoryError
from prelabel.prompts.storage import StoredPrompt
from prelabel.types import ProjectPrompts, PromptRequest

logger = logging.getLogger(__name__)

_ENTRY_BYTES = 40_000  # two prompts of 4096 characters, as Python keeps them
_CACHE_BYTES = 8 * 1024 * 1024
_CACHE_AGE_S = 600.0  # afterwards the store is called, which records the use of the project
_WATCH_TIMEOUT_S = 30.0  # the store answers a watcher within 5 s, with or without a change
_WATCH_PAUSE_S = 1.0
_TIMEOUT_S = 2.0  # an annotator waits meanwhile
_START_TIMEOUT_S = 10.0  # before its first answer the store may still be starting
_UNAVAILABLE_S = 5.0  # after a failure, until the store answers a watch again
_UNAVAILABLE = (
    "The store of remembered prompts does not answer. The service's log says why; `serve status` "
    "shows whether its replica runs."
)


class PromptCache:
    """Calls the prompt store and caches what it returns. Implements `PromptPort`.

    Cached prompts are used only while the store's changes are watched. After a call without an
    answer, all calls fail at once for some seconds, so that few requests wait for a dead store.
    Belongs to one event loop.
    """

    def __init__(self, store: DeploymentHandle[Any]) -> None:
        self._store = store
        self.cache: SingleFlightCache[ProjectPrompts] = SingleFlightCache(
            lambda _: _ENTRY_BYTES, max_bytes=_CACHE_BYTES, max_age_s=_CACHE_AGE_S
        )
        self._watcher: asyncio.Task[None] | None = None
        self._is_watching = False
        self._has_answered = False
        self._unavailable_until = 0.0

    async def recall(self, project: str) -> ProjectPrompts:
        """Return the prompts of a project, which is known from now on."""

        async def load() -> ProjectPrompts:
            return cast("ProjectPrompts", await self._call(self._store.recall, project))

        if self._watcher is None or self._watcher.done():
            self._is_watching = False
            # In an empty context, because the watcher outlives the request that starts it.
            self._watcher = asyncio.create_task(self._watch(), context=Context())
        return await (self.cache.get(project, load) if self._is_watching else load())

    async def register(self, project: str, extra: PromptRequest) -> None:
        """Make a project known, with its extra parameters."""
        await self._call(self._store.register, project, extra)

    async def refresh(self) -> None:
        """Recall all prompts again from now on."""
        self.cache.clear()

    async def knows(self, project: str) -> bool:
        """Return True for a project that predictions or a set-up have named."""
        return cast("bool", await self._call(self._store.knows, project))

    async def remember(self, project: str, submitted_at: datetime, prompt: PromptRequest) -> None:
        """Remember the prompt of a submitted annotation."""
        await self._call(self._store.remember, project, submitted_at, prompt)
        self.cache.clear()

    async def find(self, project: str | None) -> dict[str, StoredPrompt]:
        """Return the remembered prompts by project key."""
        return cast("dict[str, StoredPrompt]", await self._call(self._store.find, project))

    async def forget(self, project: str) -> int:
        """Forget the prompts of a project. Return their number."""
        forgotten = cast("int", await self._call(self._store.forget, project))
        self.cache.clear()
        return forgotten

    async def _call(self, method: DeploymentHandle[Any], *args: object) -> Any:
        if time.monotonic() < self._unavailable_until:
            raise PromptMemoryError(_UNAVAILABLE)
        timeout_s = _TIMEOUT_S if self._has_answered else _START_TIMEOUT_S
        try:
            return await call_within(timeout_s, method, *args)
        except NoAnswerError as error:
            logger.error("The prompt store does not answer: %s", error)
            self._unavailable_until = time.monotonic() + _UNAVAILABLE_S
            raise PromptMemoryError(_UNAVAILABLE) from error

    async def _watch(self) -> None:
        seen: str | None = None
        while True:
            try:
                async with asyncio.timeout(_WATCH_TIMEOUT_S):
                    revision: str = await self._store.watch.remote(seen)
            except (RayError, RayServeException, TimeoutError) as error:
                logger.warning("Changes of prompts cannot be watched: %s", type(error).__name__)
                self._is_watching, seen = False, None
                await asyncio.sleep(_WATCH_PAUSE_S)
                continue
            if revision != seen:
                self.cache.clear()
            self._is_watching, seen = True, revision
            self._has_answered, self._unavailable_until = True, 0.0
