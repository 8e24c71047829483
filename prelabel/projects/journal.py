"""The journal of a run over a project: a SQLite file, from which an ended run continues."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prelabel.errors import PrelabelError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sent (task INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS failed (task INTEGER PRIMARY KEY, reason TEXT NOT NULL);
"""


class RunJournalError(PrelabelError):
    """The journal's file cannot be used, or another run uses it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task without a prediction, and the sentence that says why."""

    task: int
    reason: str


class RunJournal:
    """Tasks whose predictions may be stored or not, and tasks that failed.

    Stored predictions are not in it: Label Studio itself knows them. A task is noted before its
    prediction is sent, and crossed out once Label Studio has confirmed it. Tasks that are noted
    when a run starts are in doubt.

    Args:
        path: The file; made with its folders where it is missing.

    Raises:
        RunJournalError: The file cannot be written, or another run uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with ExitStack() as stack:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(path.with_suffix(".lock").open("w"))
                _lock_or_raise(lock.fileno(), path)
                self._connection = stack.enter_context(closing(sqlite3.connect(path)))
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.executescript(_SCHEMA)
                self._open = stack.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from None

    def close(self) -> None:
        """Close the file, and let other runs use it."""
        self._open.close()

    def note_sent(self, tasks: Iterable[int]) -> None:
        """Note tasks whose predictions are sent from now on."""
        now = time.time()
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO sent VALUES (?, ?)", ((task, now) for task in tasks)
            )

    def note_settled(self, tasks: Iterable[int]) -> None:
        """Cross out tasks: it is known whether their predictions are stored."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM sent WHERE task = ?", ((task,) for task in tasks))

    def in_doubt(self) -> list[int]:
        """Return the tasks whose predictions may be stored or not."""
        return [task for (task,) in self._connection.execute("SELECT task FROM sent ORDER BY task")]

    def note_failed(self, reasons: Mapping[int, str]) -> None:
        """Note tasks that get no prediction, each with the reason."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO failed VALUES (?, ?)", reasons.items())

    def failed_among(self, tasks: Iterable[int]) -> set[int]:
        """Return those of the tasks that failed before."""
        found = set()
        for task in tasks:
            row = self._connection.execute("SELECT 1 FROM failed WHERE task = ?", (task,))
            if row.fetchone():
                found.add(task)
        return found

    def forget_failures(self) -> None:
        """Let the tasks that failed be tried again."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM failed")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin with the first change and end with the block. Raises RunJournalError."""
        try:
            with self._connection:
                yield self._connection
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from None


def failures_in(path: Path) -> list[Failure]:
    """Return the tasks that failed, in order, from the journal of a run that may be under way.

    Raises RunJournalError if the file cannot be read. Without a file, nothing failed.
    """
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT task, reason FROM failed ORDER BY task").fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from None
    return [Failure(task, reason) for task, reason in rows]


def _unusable(path: Path, error: Exception) -> RunJournalError:
    return RunJournalError(
        f"The journal {path} cannot be used ({error}). Give --journal another file, or remove this "
        "one: a run then asks Label Studio which tasks are left."
    )


def _lock_or_raise(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunJournalError(
            f"Another run uses the journal {path}. Wait for its end, or stop it: two runs would "
            "store two predictions of each task."
        ) from None
