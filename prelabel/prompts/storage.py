"""Storage of remembered prompts: a SQLite file, or Redis if several machines share them.

A project is identified by its key: its id and its creation time, so that two Label Studios that
use one service do not share prompts.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from prelabel.errors import PromptMemoryError
from prelabel.settings import Environment, PromptSettings
from prelabel.settings.paths import resolve_path
from prelabel.types import PromptRequest

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_NEVER = datetime.min.replace(tzinfo=UTC)
_EXPIRES_AFTER = timedelta(days=180)  # without use
_REDIS_PREFIX = "prelabel:prompt:"
_REDIS_TIMEOUT_S = 2
_REDIS_BATCH = 500  # keys in one MGET
_REOPEN_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """The stored record of one project.

    Attributes:
        prompt: Prompt and thresholds of the newest submitted annotation.
        extra: Prompt and thresholds in the extra parameters of the project's model.
        submitted_at: Time of that annotation.
        used_at: Last recorded use.
    """

    prompt: PromptRequest = field(default_factory=PromptRequest)
    extra: PromptRequest = field(default_factory=PromptRequest)
    submitted_at: datetime = _NEVER
    used_at: datetime = _NEVER

    def to_json(self) -> str:
        """Serialise the record."""
        times = {"submitted_at": self.submitted_at, "used_at": self.used_at}
        fields = asdict(self.prompt) | {name: at.isoformat() for name, at in times.items()}
        return json.dumps(fields | {"project": asdict(self.extra)})

    @classmethod
    def from_json(cls, text: str | bytes) -> StoredPrompt:
        """Parse the output of `to_json`."""
        fields = json.loads(text)
        times = {n: datetime.fromisoformat(fields.pop(n)) for n in ("submitted_at", "used_at")}
        extra = PromptRequest(**fields.pop("project", {}))  # older files lack it
        return cls(PromptRequest(**fields), extra, **times)


class PromptStorage(Protocol):
    """Records by project key. Every method blocks, and raises PromptMemoryError on failure."""

    def get(self, project: str) -> StoredPrompt | None:
        """Return the record of a project, None for an unknown one."""

    def put(self, project: str, stored: StoredPrompt) -> None:
        """Write the record of a project."""

    def all(self) -> Mapping[str, StoredPrompt]:
        """Return all records by project key."""


class FileStorage:
    """Records in a SQLite file. The least recently used projects are dropped.

    Args:
        path: The file, None to keep the records in memory only.
        max_projects: Most projects that are stored.

    Raises:
        PromptMemoryError: The file cannot be opened or written.
    """

    def __init__(self, path: Path | None, max_projects: int = 10_000) -> None:
        self._max_projects = max_projects
        with self._translated_errors():
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
            # `PromptRepository` calls from several threads, one at a time.
            self._connection = sqlite3.connect(
                path or ":memory:", isolation_level=None, check_same_thread=False
            )
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS prompts"
                " (project TEXT PRIMARY KEY, used_at TEXT, remembered TEXT)"
            )
            # Without a write here, a read-only file would be noticed at the first submit only,
            # because opening an existing table writes nothing.
            self._connection.execute("PRAGMA user_version = 1")

    def close(self) -> None:
        """Close the file. No other call may follow."""
        self._connection.close()

    def get(self, project: str) -> StoredPrompt | None:
        """Return the record of a project, None for an unknown one."""
        with self._translated_errors():
            row = self._connection.execute(
                "SELECT remembered FROM prompts WHERE project = ?", (project,)
            ).fetchone()
        return StoredPrompt.from_json(row[0]) if row else None

    def put(self, project: str, stored: StoredPrompt) -> None:
        """Write the record of a project."""
        used_at = stored.used_at.isoformat()
        with self._translated_errors():
            self._connection.execute(
                "INSERT OR REPLACE INTO prompts VALUES (?, ?, ?)",
                (project, used_at, stored.to_json()),
            )
            self._connection.execute(
                "DELETE FROM prompts WHERE project IN"
                " (SELECT project FROM prompts ORDER BY used_at DESC LIMIT -1 OFFSET ?)",
                (self._max_projects,),
            )

    def all(self) -> Mapping[str, StoredPrompt]:
        """Return all records by project key."""
        with self._translated_errors():
            rows = self._connection.execute("SELECT project, remembered FROM prompts").fetchall()
        return {project: StoredPrompt.from_json(text) for project, text in rows}

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise PromptMemoryError(
                "The file of remembered prompts cannot be used "
                f"({type(error).__name__}). Set prompts.file to a place that can be written, or "
                "prompts.remember to false."
            ) from error


class RedisStorage:
    """Records in Redis. They expire after half a year without use."""

    def __init__(self, url: str) -> None:
        with self._translated_errors():
            self._connection = redis.Redis.from_url(
                url,
                socket_timeout=_REDIS_TIMEOUT_S,
                socket_connect_timeout=_REDIS_TIMEOUT_S,
                # One retry, because Redis may have closed an idle connection. redis-py's default
                # retries pause for up to 10 s.
                retry=Retry(NoBackoff(), 1),
            )

    def get(self, project: str) -> StoredPrompt | None:
        """Return the record of a project, None for an unknown one."""
        with self._translated_errors():
            text = self._connection.get(_REDIS_PREFIX + project)
        return StoredPrompt.from_json(text) if isinstance(text, bytes) else None

    def put(self, project: str, stored: StoredPrompt) -> None:
        """Write the record of a project."""
        with self._translated_errors():
            self._connection.set(_REDIS_PREFIX + project, stored.to_json(), ex=_EXPIRES_AFTER)

    def all(self) -> Mapping[str, StoredPrompt]:
        """Return all records by project key."""
        with self._translated_errors():
            keys = list(self._connection.scan_iter(f"{_REDIS_PREFIX}*", count=_REDIS_BATCH))
            records: dict[str, StoredPrompt] = {}
            for start in range(0, len(keys), _REDIS_BATCH):
                batch = keys[start : start + _REDIS_BATCH]
                texts = self._connection.mget(batch)
                records |= {
                    key.decode().removeprefix(_REDIS_PREFIX): StoredPrompt.from_json(text)
                    for key, text in zip(batch, texts, strict=True)
                    if text is not None  # expired since the scan
                }
        return records

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, ValueError) as error:
            raise PromptMemoryError(
                f"Redis, which remembers the prompts, cannot be used ({type(error).__name__}). "
                "Check PROMPTS_REDIS_URL and that Redis runs, then try again."
            ) from error


class ReopeningStorage:
    """Opens a storage at the first call, and again some seconds after a failure.

    In between, every call fails at once with the same error, because each attempt to reach a dead
    Redis takes seconds. Calls must not overlap.
    """

    def __init__(
        self, open_storage: Callable[[], PromptStorage], reopen_after_s: float = _REOPEN_AFTER_S
    ) -> None:
        self._open = open_storage
        self._reopen_after_s = reopen_after_s
        self._storage: PromptStorage | None = None
        self._failure: PromptMemoryError | None = None
        self._failed_at = 0.0

    def try_open(self) -> None:
        """Open the storage. A failure is logged, and raised by the calls that follow."""
        with suppress(PromptMemoryError):
            self._try(self._opened)

    def get(self, project: str) -> StoredPrompt | None:
        """Return the record of a project, None for an unknown one."""
        return self._try(lambda: self._opened().get(project))

    def put(self, project: str, stored: StoredPrompt) -> None:
        """Write a record. A failure does not close the storage: a full disk can still be read."""
        self._try(self._opened).put(project, stored)

    def all(self) -> Mapping[str, StoredPrompt]:
        """Return all records by project key."""
        return self._try(lambda: self._opened().all())

    def _opened(self) -> PromptStorage:
        if self._storage is None:
            self._storage = self._open()
        return self._storage

    def _try(self, work: Callable[[], ResultT]) -> ResultT:
        if self._failure and time.monotonic() - self._failed_at < self._reopen_after_s:
            raise PromptMemoryError(str(self._failure))
        try:
            result = work()
        except PromptMemoryError as error:
            if self._failure is None:
                logger.error("%s%s", error, _detail(error.__cause__))
            self._storage, self._failure, self._failed_at = None, error, time.monotonic()
            raise
        if self._failure:
            logger.info("The remembered prompts can be used again.")
            self._failure = None
        return result


def _detail(cause: BaseException | None) -> str:
    """Return the message of a file's error for the log; empty for an error of Redis.

    Redis's errors quote the server, which may repeat the password that it received.
    """
    return f" ({cause})" if isinstance(cause, OSError | sqlite3.Error) else ""


def open_storage(settings: PromptSettings, environment: Environment) -> PromptStorage:
    """Open the storage that settings and environment name. Raises PromptMemoryError."""
    if not settings.remember:
        return FileStorage(None)
    if environment.prompts_redis_url is not None:
        return RedisStorage(environment.prompts_redis_url.get_secret_value())
    file = settings.file
    return FileStorage(resolve_path(file) if file else None)
