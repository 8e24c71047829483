"""The prompts that are remembered for projects, and the rules by which they change.

A project is known from the first prediction or set-up that names it. Webhooks carry no
credentials, so they can change the prompt of a known project and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, Protocol, TypeVar
from uuid import uuid4

from prelabel.errors import PromptMemoryError
from prelabel.prompts.storage import PromptStorage, StoredPrompt
from prelabel.types import ProjectPrompts, PromptRequest

logger = logging.getLogger(__name__)

Params = ParamSpec("Params")
ResultT = TypeVar("ResultT")

# A write for each prediction would wear out the disk. The time of the last use need not be exact,
# because the storage drops records only after months without use.
_USE_RECORDED_EVERY = timedelta(hours=1)


class PromptPort(Protocol):
    """Access to the remembered prompts, which another process may hold.

    Every method raises PromptMemoryError if they cannot be read or written.
    """

    async def recall(self, project: str) -> ProjectPrompts:
        """Return the prompts of a project, which is known from now on."""

    async def register(self, project: str, extra: PromptRequest) -> None:
        """Make a project known, with its extra parameters."""

    async def refresh(self) -> None:
        """Recall all prompts again from now on, where they are cached."""

    async def knows(self, project: str) -> bool:
        """Return True for a project that predictions or a set-up have named."""

    async def remember(self, project: str, submitted_at: datetime, prompt: PromptRequest) -> None:
        """Remember the prompt of a submitted annotation."""

    async def find(self, project: str | None) -> dict[str, StoredPrompt]:
        """Return the remembered prompts by project key."""

    async def forget(self, project: str) -> int:
        """Forget the prompts of a project. Return their number."""


class PromptRepository:
    """Reads and changes remembered prompts in a storage. Thread-safe; blocks.

    Every method raises PromptMemoryError if the storage cannot be used.
    """

    def __init__(self, storage: PromptStorage) -> None:
        self._storage = storage
        self._lock = threading.Lock()  # a change is a read and a write

    def recall(self, project: str) -> ProjectPrompts:
        """Return the prompts of a project, which is known from now on."""
        now = datetime.now(UTC)
        with self._lock:
            existing = self._storage.get(project)
            stored = existing or StoredPrompt()
            if now - stored.used_at > _USE_RECORDED_EVERY:
                try:
                    self._storage.put(project, replace(stored, used_at=now))
                except PromptMemoryError as error:
                    if existing is None:
                        raise  # the project would stay unknown, and its webhooks be ignored
                    logger.warning("project %s: its use is not recorded. %s", project, error)
        return ProjectPrompts(stored.prompt, stored.extra)

    def register(self, project: str, extra: PromptRequest) -> bool:
        """Make a project known, with its extra parameters. Return True if these are new."""
        now = datetime.now(UTC)
        with self._lock:
            stored = self._storage.get(project) or StoredPrompt()
            is_new = stored.extra != extra
            if is_new or now - stored.used_at > _USE_RECORDED_EVERY:
                self._storage.put(project, replace(stored, extra=extra, used_at=now))
        return is_new

    def knows(self, project: str) -> bool:
        """Return True for a project that predictions or a set-up have named."""
        with self._lock:
            return self._storage.get(project) is not None

    def remember(self, project: str, submitted_at: datetime, prompt: PromptRequest) -> None:
        """Remember the prompt of a submitted annotation, unless a newer one is remembered.

        Fields that the prompt leaves open keep their value. A time in the future counts as now,
        because no later submit could replace it otherwise.
        """
        submitted_at = min(submitted_at, datetime.now(UTC))
        with self._lock:
            stored = self._storage.get(project)
            if stored is not None and submitted_at >= stored.submitted_at:
                merged = prompt.or_else(stored.prompt)
                changed = replace(stored, prompt=merged, submitted_at=submitted_at)
                self._storage.put(project, changed)

    def find(self, project: str | None = None) -> dict[str, StoredPrompt]:
        """Return what is remembered by project key: submitted prompts, and extra parameters.

        Args:
            project: A project's key, or its id for all keys with that id; None for all projects.
        """
        with self._lock:
            everything = self._storage.all()
        return {
            key: stored
            for key, stored in sorted(everything.items())
            if {stored.prompt, stored.extra} != {PromptRequest()}
            and project in (None, key, key.partition(".")[0])
        }

    def forget(self, project: str) -> int:
        """Forget the submitted prompts of a project, by its key or id. Return their number.

        The projects stay known, so that their next submit counts, with their extra parameters.
        """
        found = self.find(project).items()
        remembered = {key: stored for key, stored in found if stored.prompt != PromptRequest()}
        for key, stored in remembered.items():
            with self._lock:
                empty = replace(stored, prompt=PromptRequest(), submitted_at=datetime.now(UTC))
                self._storage.put(key, empty)
        return len(remembered)


class AsyncPromptRepository:
    """A `PromptRepository` for an event loop, and a signal of its changes.

    All storage access runs in one thread, because SQLite and Redis block for up to two seconds.
    Implements `PromptPort`.
    """

    def __init__(self, storage: PromptStorage) -> None:
        self._repository = PromptRepository(storage)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._revision = uuid4().hex
        self._changed = asyncio.Event()

    async def recall(self, project: str) -> ProjectPrompts:
        """Return the prompts of a project, which is known from now on."""
        return await self._run(self._repository.recall, project)

    async def register(self, project: str, extra: PromptRequest) -> None:
        """Make a project known, with its extra parameters."""
        if await self._run(self._repository.register, project, extra):
            self._signal_change()

    async def refresh(self) -> None:
        """Do nothing, because nothing is cached."""

    async def knows(self, project: str) -> bool:
        """Return True for a project that predictions or a set-up have named."""
        return await self._run(self._repository.knows, project)

    async def remember(self, project: str, submitted_at: datetime, prompt: PromptRequest) -> None:
        """Remember the prompt of a submitted annotation, unless a newer one is remembered."""
        try:
            await self._run(self._repository.remember, project, submitted_at, prompt)
        finally:
            self._signal_change()

    async def find(self, project: str | None) -> dict[str, StoredPrompt]:
        """Return the remembered prompts by project key."""
        return await self._run(self._repository.find, project)

    async def forget(self, project: str) -> int:
        """Forget the prompts of a project. Return their number."""
        try:
            return await self._run(self._repository.forget, project)
        finally:
            self._signal_change()  # some may be forgotten when the storage fails at another

    async def wait_for_change(self, seen: str | None, timeout_s: float) -> str:
        """Return the current revision of all prompts.

        It is returned at once if it differs from `seen`, else after the next change or after
        `timeout_s` seconds, whichever comes first.
        """
        if seen == self._revision:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        return self._revision

    async def _run(
        self, method: Callable[Params, ResultT], *args: Params.args, **kwargs: Params.kwargs
    ) -> ResultT:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: method(*args, **kwargs))

    def _signal_change(self) -> None:
        self._revision = uuid4().hex
        self._changed.set()
        self._changed = asyncio.Event()
