"""The one writer of remembered prompts. One replica, so that there is one truth."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from uuid import uuid4

from deployments.logs import use_serve_log
from prelabel.prompt_memory import PromptBook, Remembered, open_memory
from prelabel.settings import AppSettings, Environment
from prelabel.types import Asked, Recalled

_LONGEST_WATCH_S = 5.0  # so that nobody waits for watchers when the replica is to go


class PromptStore:
    """See PromptBook. Those who keep what they recalled can watch for changes."""

    def __init__(self, settings: AppSettings, environment: Environment) -> None:
        use_serve_log(settings.log_level)
        self._book = PromptBook(open_memory(settings, environment))
        self._state = uuid4().hex
        self._changed = asyncio.Event()

    def recall(self, project: str) -> Recalled:
        """What is kept for a project, which is known from now on."""
        return self._book.recall(project)

    async def meet(self, project: str, asked: Asked) -> None:
        """Know a project from now on, and what the extra parameters of its model say."""
        if self._book.meet(project, asked):
            self._tell()

    def knows(self, project: str) -> bool:
        """Whether predictions were asked for a project, so that its submits count."""
        return self._book.knows(project)

    async def remember(self, project: str, submitted_at: datetime, asked: Asked) -> None:
        """Keep what a submitted annotation says."""
        self._book.remember(project, submitted_at, asked)
        self._tell()

    def show(self, project: str | None) -> dict[str, Remembered]:
        """What is remembered, by project's key."""
        return self._book.show(project)

    async def forget(self, project: str) -> int:
        """Forget what is remembered for a project; how many there were of that id."""
        forgotten = self._book.forget(project)
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
