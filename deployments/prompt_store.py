"""The deployment that stores remembered prompts. One replica, so that all writes are in order."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from functools import partial
from typing import TypeVar

from deployments.logs import use_serve_log
from prelabel.errors import PromptMemoryError
from prelabel.prompts.repository import AsyncPromptRepository
from prelabel.prompts.storage import ReopeningStorage, StoredPrompt, open_storage
from prelabel.settings import Environment, PromptSettings
from prelabel.types import ProjectPrompts, PromptRequest

ResultT = TypeVar("ResultT")

_WATCH_TIMEOUT_S = 5.0  # a replica that shuts down waits for its watchers


class PromptStore:
    """Holds an `AsyncPromptRepository`.

    A storage that cannot be used does not end the replica, because Serve would let every call
    wait for the next replica. Each method returns a PromptMemoryError as a value, which
    `deployments.handles.call` raises, because Serve logs a traceback for each exception.
    """

    def __init__(self, settings: PromptSettings, environment: Environment, log_level: str) -> None:
        use_serve_log(log_level)
        storage = ReopeningStorage(partial(open_storage, settings, environment))
        storage.try_open()  # so that a fault is logged at the start
        self._repository = AsyncPromptRepository(storage)

    async def recall(self, project: str) -> ProjectPrompts | PromptMemoryError:
        """Return the prompts of a project, which is known from now on."""
        return await _or_error(self._repository.recall(project))

    async def register(self, project: str, extra: PromptRequest) -> PromptMemoryError | None:
        """Make a project known, with its extra parameters."""
        return await _or_error(self._repository.register(project, extra))

    async def knows(self, project: str) -> bool | PromptMemoryError:
        """Return True for a project that predictions or a set-up have named."""
        return await _or_error(self._repository.knows(project))

    async def remember(
        self, project: str, submitted_at: datetime, prompt: PromptRequest
    ) -> PromptMemoryError | None:
        """Remember the prompt of a submitted annotation."""
        return await _or_error(self._repository.remember(project, submitted_at, prompt))

    async def find(self, project: str | None) -> dict[str, StoredPrompt] | PromptMemoryError:
        """Return the remembered prompts by project key."""
        return await _or_error(self._repository.find(project))

    async def forget(self, project: str) -> int | PromptMemoryError:
        """Forget the prompts of a project. Return their number."""
        return await _or_error(self._repository.forget(project))

    async def watch(self, seen: str | None) -> str:
        """Return the revision of all prompts, once it differs from `seen` or 5 s have passed."""
        return await self._repository.wait_for_change(seen, _WATCH_TIMEOUT_S)


async def _or_error(result: Awaitable[ResultT]) -> ResultT | PromptMemoryError:
    try:
        return await result
    except PromptMemoryError as error:
        return error
