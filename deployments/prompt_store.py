"""The one writer of remembered prompts. One replica, so that there is one truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import uuid4

from deployments.logs import use_serve_log
from prelabel.errors import PromptMemoryError
from prelabel.prompts.store import PromptBook, ReopenedMemory, StoredPrompt, open_memory
from prelabel.settings import Environment, PromptSettings
from prelabel.types import ProjectPrompts, PromptRequest

ResultT = TypeVar("ResultT")
Params = ParamSpec("Params")

_LONGEST_WATCH_S = 5.0  # so that nobody waits for watchers when the replica is to go


class PromptStore:
    """See PromptBook. Those who keep what they recalled can watch for changes.

    A memory that cannot be used does not end the replica, because the application would be without
    a store: each call is answered with the PromptMemoryError, as a value (`deployments.handles`
    raises it), because Serve would log a traceback for each one that is raised.
    """

    def __init__(self, settings: PromptSettings, environment: Environment, log_level: str) -> None:
        use_serve_log(log_level)
        self._book = PromptBook(ReopenedMemory(partial(open_memory, settings, environment)))
        self._state = uuid4().hex
        self._changed = asyncio.Event()
        _or_error(self._book.knows, "")  # so that the log says at the start what is wrong

    def recall(self, project: str) -> ProjectPrompts | PromptMemoryError:
        """What is kept for a project, which is known from now on."""
        return _or_error(self._book.recall, project)

    async def meet(self, project: str, asked: PromptRequest) -> PromptMemoryError | None:
        """Know a project from now on, and what the extra parameters of its model say."""
        is_new = await asyncio.to_thread(_or_error, self._book.meet, project, asked)
        if is_new is True:
            self._tell()
        return is_new if isinstance(is_new, PromptMemoryError) else None

    def knows(self, project: str) -> bool | PromptMemoryError:
        """Whether predictions were asked for a project, so that its submits count."""
        return _or_error(self._book.knows, project)

    async def remember(
        self, project: str, submitted_at: datetime, asked: PromptRequest
    ) -> PromptMemoryError | None:
        """Keep what a submitted annotation says."""
        kept = await asyncio.to_thread(_or_error, self._book.remember, project, submitted_at, asked)
        self._tell()
        return kept

    def show(self, project: str | None) -> dict[str, StoredPrompt] | PromptMemoryError:
        """What is remembered, by project's key."""
        return _or_error(self._book.show, project)

    async def forget(self, project: str) -> int | PromptMemoryError:
        """Forget what is remembered for a project; how many there were of that id."""
        forgotten = await asyncio.to_thread(_or_error, self._book.forget, project)
        self._tell()
        return forgotten

    async def watch(self, seen: str | None) -> str:
        """A name for the state of all that is remembered: at once where it is not the one `seen`,
        else after the next change, or some seconds.
        """
        if seen == self._state:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LONGEST_WATCH_S)
        return self._state

    def _tell(self) -> None:
        self._state = uuid4().hex
        self._changed.set()
        self._changed = asyncio.Event()


def _or_error(
    work: Callable[Params, ResultT], *args: Params.args, **kwargs: Params.kwargs
) -> ResultT | PromptMemoryError:
    try:
        return work(*args, **kwargs)
    except PromptMemoryError as error:
        return error
