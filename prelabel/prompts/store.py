"""Where remembered prompts are kept: a file, or Redis where several machines share them.

A project is known by its key: its id and the time it was created, so that two Label Studios that
share a service do not share prompts.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from prelabel.errors import PromptMemoryError
from prelabel.settings.application import AppSettings, Environment
from prelabel.settings.paths import resolve_path
from prelabel.types import ProjectPrompts, PromptRequest

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_NEVER = datetime.min.replace(tzinfo=UTC)
_USE_NOTED_EVERY = timedelta(hours=1)
_KEPT_UNUSED = timedelta(days=180)
_REDIS_PREFIX = "prelabel:prompt:"
_REDIS_TIMEOUT_S = 2
_REOPENED_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """What a project's newest submit asked for, and when; project: what the extra parameters of
    its model say; used_at: when it was last asked for.
    """

    asked: PromptRequest = field(default_factory=PromptRequest)
    project: PromptRequest = field(default_factory=PromptRequest)
    submitted_at: datetime = _NEVER
    used_at: datetime = _NEVER

    def to_json(self) -> str:
        """For the file and for Redis."""
        times = {"submitted_at": self.submitted_at, "used_at": self.used_at}
        fields = asdict(self.asked) | {k: v.isoformat() for k, v in times.items()}
        return json.dumps(fields | {"project": asdict(self.project)})

    @classmethod
    def from_json(cls, text: str | bytes) -> StoredPrompt:
        """Back again."""
        fields = json.loads(text)
        times = {n: datetime.fromisoformat(fields.pop(n)) for n in ("submitted_at", "used_at")}
        project = PromptRequest(**fields.pop("project", {}))  # older files have none
        return cls(PromptRequest(**fields), project, **times)


class PromptMemory(Protocol):
    """Remembered prompts by project. Raises PromptMemoryError where they cannot be had."""

    def get(self, project: str) -> StoredPrompt | None:
        """What is remembered; None for a project that it does not know."""

    def put(self, project: str, remembered: StoredPrompt) -> None:
        """Keep it in place of what was there."""

    def all(self) -> Mapping[str, StoredPrompt]:
        """Everything, by project."""


class FileMemory:
    """In a SQLite file; the projects that were unused longest make room."""

    def __init__(self, path: Path | None, most_projects: int = 10_000) -> None:
        """path: None keeps it in memory only. Raises PromptMemoryError, also where the file can
        be read but not written.
        """
        self._place = str(path) if path else ":memory:"
        self._most_projects = most_projects
        with self._failing():
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Calls come one at a time, see PromptBook, but not always from the same thread.
            self._base = sqlite3.connect(self._place, isolation_level=None, check_same_thread=False)
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS prompts"
                " (project TEXT PRIMARY KEY, used_at TEXT, remembered TEXT)"
            )
            # Opening writes nothing where the table exists: a read-only file would be noticed at
            # the first submit.
            self._base.execute("PRAGMA user_version = 1")

    def close(self) -> None:
        """Close the file; no call may follow."""
        self._base.close()

    def get(self, project: str) -> StoredPrompt | None:
        """See PromptMemory."""
        with self._failing():
            row = self._base.execute(
                "SELECT remembered FROM prompts WHERE project = ?", (project,)
            ).fetchone()
        return StoredPrompt.from_json(row[0]) if row else None

    def put(self, project: str, remembered: StoredPrompt) -> None:
        """See PromptMemory."""
        used_at = remembered.used_at.isoformat()
        with self._failing():
            self._base.execute(
                "INSERT OR REPLACE INTO prompts VALUES (?, ?, ?)",
                (project, used_at, remembered.to_json()),
            )
            self._base.execute(
                "DELETE FROM prompts WHERE project IN"
                " (SELECT project FROM prompts ORDER BY used_at DESC LIMIT -1 OFFSET ?)",
                (self._most_projects,),
            )

    def all(self) -> Mapping[str, StoredPrompt]:
        """See PromptMemory."""
        with self._failing():
            rows = self._base.execute("SELECT project, remembered FROM prompts").fetchall()
        return {project: StoredPrompt.from_json(text) for project, text in rows}

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise PromptMemoryError(
                "The file of remembered prompts cannot be used "
                f"({type(error).__name__}). Set prompts_file to a place that can be written, or "
                "remember_prompts to false."
            ) from error


class RedisMemory:
    """In Redis; what is unused for half a year goes."""

    def __init__(self, url: str) -> None:
        with self._failing():
            self._base = redis.Redis.from_url(
                url,
                socket_timeout=_REDIS_TIMEOUT_S,
                socket_connect_timeout=_REDIS_TIMEOUT_S,
                # One more try, because Redis may have closed an idle connection. redis-py's own
                # retries pause for up to 10 s.
                retry=Retry(NoBackoff(), 1),
            )

    def get(self, project: str) -> StoredPrompt | None:
        """See PromptMemory."""
        with self._failing():
            text = self._base.get(_REDIS_PREFIX + project)
        return StoredPrompt.from_json(text) if isinstance(text, bytes) else None

    def put(self, project: str, remembered: StoredPrompt) -> None:
        """See PromptMemory."""
        with self._failing():
            self._base.set(_REDIS_PREFIX + project, remembered.to_json(), ex=_KEPT_UNUSED)

    def all(self) -> Mapping[str, StoredPrompt]:
        """See PromptMemory."""
        with self._failing():
            keys = [key.decode() for key in self._base.scan_iter(f"{_REDIS_PREFIX}*")]
        found = {key.removeprefix(_REDIS_PREFIX): None for key in keys}
        return {project: kept for project in found if (kept := self.get(project))}

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, ValueError) as error:
            raise PromptMemoryError(
                f"Redis, which remembers the prompts, cannot be used ({type(error).__name__}). "
                "Check PROMPTS_REDIS_URL and that Redis runs, then try again."
            ) from error


class ReopenedMemory:
    """A memory that is opened when it is first needed, and again some seconds after it failed.

    In between, each call fails at once with the same error: an unreachable Redis takes seconds to
    say so. Calls come one at a time, see PromptBook.
    """

    def __init__(
        self, open_it: Callable[[], PromptMemory], reopened_after_s: float = _REOPENED_AFTER_S
    ) -> None:
        self._open = open_it
        self._reopened_after_s = reopened_after_s
        self._memory: PromptMemory | None = None
        self._failure: PromptMemoryError | None = None
        self._failed_at = 0.0

    def get(self, project: str) -> StoredPrompt | None:
        """See PromptMemory."""
        return self._try(lambda: self._opened().get(project))

    def put(self, project: str, remembered: StoredPrompt) -> None:
        """See PromptMemory. A failure does not count: a full disk can still be read."""
        self._try(self._opened).put(project, remembered)

    def all(self) -> Mapping[str, StoredPrompt]:
        """See PromptMemory."""
        return self._try(lambda: self._opened().all())

    def _opened(self) -> PromptMemory:
        if self._memory is None:
            self._memory = self._open()
        return self._memory

    def _try(self, work: Callable[[], ResultT]) -> ResultT:
        if self._failure and time.monotonic() - self._failed_at < self._reopened_after_s:
            raise PromptMemoryError(str(self._failure))
        try:
            result = work()
        except PromptMemoryError as error:
            if self._failure is None:
                logger.error("%s (%s)", error, error.__cause__)
            self._memory, self._failure, self._failed_at = None, error, time.monotonic()
            raise
        if self._failure:
            logger.info("the memory of prompts can be used again")
            self._failure = None
        return result


def open_memory(settings: AppSettings, environment: Environment) -> PromptMemory:
    """The memory that settings and environment name. Raises PromptMemoryError."""
    if not settings.remember_prompts:
        return FileMemory(None)
    if environment.prompts_redis_url is not None:
        return RedisMemory(environment.prompts_redis_url.get_secret_value())
    file = settings.prompts_file
    return FileMemory(resolve_path(file) if file else None)


class PromptBook:
    """What is remembered for each project that predictions were asked for.

    Webhooks come from anybody: they can change what is remembered for one of these, and nothing
    else.
    """

    def __init__(self, memory: PromptMemory) -> None:
        self._memory = memory
        self._one_at_a_time = threading.Lock()

    def recall(self, project: str) -> ProjectPrompts:
        """What is kept for a project, which is known from now on."""
        now = datetime.now(UTC)
        with self._one_at_a_time:
            found = self._memory.get(project)
            known = found or StoredPrompt()
            if now - known.used_at > _USE_NOTED_EVERY:
                try:
                    self._memory.put(project, replace(known, used_at=now))
                except PromptMemoryError as error:
                    if found is None:
                        raise  # its submits would not count
                    logger.warning("project %s: its use is not noted. %s", project, error)
        return ProjectPrompts(known.asked, known.project)

    def meet(self, project: str, asked: PromptRequest) -> bool:
        """Know a project from now on, and what the extra parameters of its model say; whether that
        is new.
        """
        now = datetime.now(UTC)
        with self._one_at_a_time:
            known = self._memory.get(project) or StoredPrompt()
            is_new = known.project != asked
            if is_new or now - known.used_at > _USE_NOTED_EVERY:
                self._memory.put(project, replace(known, project=asked, used_at=now))
        return is_new

    def knows(self, project: str) -> bool:
        """Whether predictions were asked for it, so that its submits count."""
        with self._one_at_a_time:
            return self._memory.get(project) is not None

    def remember(self, project: str, submitted_at: datetime, asked: PromptRequest) -> None:
        """Keep what a submitted annotation says, unless a newer one was there before.

        What it leaves open stays as it was. A time in the future counts as now: it could not be
        overtaken otherwise.
        """
        submitted_at = min(submitted_at, datetime.now(UTC))
        with self._one_at_a_time:
            known = self._memory.get(project)
            if known is not None and submitted_at >= known.submitted_at:
                kept = replace(known, asked=asked.or_else(known.asked), submitted_at=submitted_at)
                self._memory.put(project, kept)

    def show(self, project: str | None = None) -> dict[str, StoredPrompt]:
        """What is remembered, by project's key: of all, or those of that key or id."""
        with self._one_at_a_time:
            everything = self._memory.all()
        return {
            key: kept
            for key, kept in sorted(everything.items())
            if kept.asked != PromptRequest() and project in (None, key, key.partition(".")[0])
        }

    def forget(self, project: str) -> int:
        """Forget what is remembered for the projects of that key or id; how many there were.

        They stay known, so that the next submit counts.
        """
        found = self.show(project)
        for key, kept in found.items():
            with self._one_at_a_time:
                forgotten = replace(kept, asked=PromptRequest(), submitted_at=datetime.now(UTC))
                self._memory.put(key, forgotten)
        return len(found)
