"""The journal of a run over a project: a SQLite file, from which an ended run continues."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from prelabel.errors import PrelabelError
from prelabel.types import Ints

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sent (task INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS failed (task INTEGER PRIMARY KEY, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS postponed (task INTEGER PRIMARY KEY, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (run TEXT PRIMARY KEY, request TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS made (task INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS pictures (
    task INTEGER, picture INTEGER, hash INTEGER NOT NULL, PRIMARY KEY (task, picture)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outdated (prediction INTEGER PRIMARY KEY, task INTEGER NOT NULL);
"""
_FAILURES: Final = """
SELECT task, reason FROM failed UNION ALL SELECT task, reason FROM postponed ORDER BY task
"""
_PICTURES: Final = "SELECT task, picture, hash FROM pictures ORDER BY task, picture"
_COUNT_MADE: Final = """
SELECT COUNT(*) FROM (
    SELECT task FROM made WHERE (SELECT request FROM requests WHERE run = 'made') = ?1
    UNION
    SELECT task FROM sent WHERE (SELECT request FROM requests WHERE run = 'newest') = ?1
)
"""


class RunJournalError(PrelabelError):
    """The journal's file cannot be used, or another run uses it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task without a prediction, and the sentence that says why."""

    task: int
    reason: str


@dataclass(frozen=True, slots=True)
class PictureHashes:
    """The perceptual hashes of N pictures.

    Attributes:
        tasks: int64 [N], the ids of their tasks.
        pictures: int64 [N], the index of each in its task.
        hashes: uint64 [N].
    """

    tasks: Ints
    pictures: Ints
    hashes: NDArray[np.uint64]


class RunJournal:
    """Tasks whose predictions may be stored or not, and tasks that failed.

    Stored predictions are not in it: Label Studio itself knows them. A task is noted before its
    prediction is sent, and crossed out once Label Studio has confirmed it. Tasks that are noted
    when a run starts are in doubt.

    Label Studio does not know from which prompt a prediction comes. Of the newest run with a prompt
    of its own, the journal therefore keeps the tasks that have their predictions, and those
    predictions that these replace and that are not removed yet. It also keeps the perceptual hashes
    of all pictures.

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

    def begin(self, request: str) -> None:
        """Begin a run.

        Failures of a run with another prompt are forgotten, because they may be faults of it.

        Args:
            request: The run's own prompt and thresholds as a text; empty without any.
        """
        with self._transaction() as connection:
            if request != self._request_of("newest"):
                connection.execute("DELETE FROM failed")
            if request and request != self._request_of("made"):
                connection.execute("DELETE FROM made")
                connection.execute("INSERT OR REPLACE INTO requests VALUES ('made', ?)", (request,))
            connection.execute("INSERT OR REPLACE INTO requests VALUES ('newest', ?)", (request,))

    def note_sent(self, tasks: Iterable[int], outdated: Mapping[int, Iterable[int]]) -> None:
        """Note tasks whose predictions are sent from now on.

        Args:
            tasks: The tasks.
            outdated: The ids of the predictions that are to be removed after that, by task.
        """
        tasks, now = list(tasks), time.time()
        rows = [(old, task) for task in tasks for old in outdated.get(task, ())]
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO sent VALUES (?, ?)", ((task, now) for task in tasks)
            )
            connection.executemany("INSERT OR REPLACE INTO outdated VALUES (?, ?)", rows)

    def note_settled(self, stored: Iterable[int], lost: Iterable[int] = ()) -> None:
        """Cross out tasks: it is known that their predictions are stored, or are not."""
        of_stored, of_lost = [(task,) for task in stored], [(task,) for task in lost]
        has_request = bool(self._request_of("newest"))
        with self._transaction() as connection:
            connection.executemany("DELETE FROM sent WHERE task = ?", of_stored + of_lost)
            connection.executemany("DELETE FROM outdated WHERE task = ?", of_lost)
            connection.executemany(
                "INSERT OR IGNORE INTO made VALUES (?)"
                if has_request
                else "DELETE FROM made WHERE task = ?",
                of_stored,
            )

    def made_among(self, tasks: Iterable[int]) -> set[int]:
        """Return those of the tasks whose predictions come from the newest run's own prompt."""
        return self._found_among(tasks, "SELECT 1 FROM made WHERE task = ?")

    def count_made(self, request: str) -> int:
        """Return the number of tasks whose predictions come from a run's own prompt.

        Those in doubt count if the newest run had that prompt.
        """
        [(count,)] = self._connection.execute(_COUNT_MADE, (request,))
        return int(count)

    def outdated_of(self, task: int) -> set[int]:
        """Return the predictions of a task that are to be removed."""
        rows = self._connection.execute("SELECT prediction FROM outdated WHERE task = ?", (task,))
        return {prediction for (prediction,) in rows}

    def replaced(self) -> list[int]:
        """Return the predictions that are to be removed now: newer ones are stored."""
        rows = self._connection.execute(
            "SELECT prediction FROM outdated WHERE task NOT IN (SELECT task FROM sent)"
        )
        return [prediction for (prediction,) in rows]

    def note_removed(self, prediction: int) -> None:
        """Cross out a prediction that is removed."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM outdated WHERE prediction = ?", (prediction,))

    def in_doubt(self) -> list[int]:
        """Return the tasks whose predictions may be stored or not."""
        return [task for (task,) in self._connection.execute("SELECT task FROM sent ORDER BY task")]

    def note_failed(self, reasons: Mapping[int, str]) -> None:
        """Note tasks that get no prediction, each with the reason."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO failed VALUES (?, ?)", reasons.items())

    def failed_among(self, tasks: Iterable[int]) -> set[int]:
        """Return those of the tasks that failed before, without those that are postponed."""
        return self._found_among(tasks, "SELECT 1 FROM failed WHERE task = ?")

    def note_pictures(self, hashes: Mapping[int, Sequence[int]]) -> None:
        """Note the perceptual hashes, 64 bits each, of the pictures of tasks."""
        rows = [
            (task, picture, value - (value >> 63 << 64))  # SQLite's integers have a sign
            for task, of_task in hashes.items()
            for picture, value in enumerate(of_task)
        ]
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)", rows)

    def forget_failures(self) -> None:
        """Let the tasks that failed be tried again."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM failed")

    def note_postponed(self, reasons: Mapping[int, str]) -> None:
        """Note tasks that failed because of a fault that may pass, each with the reason."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO postponed VALUES (?, ?)", reasons.items()
            )

    def forget_postponed(self) -> None:
        """Cross out all tasks that were postponed, because they are tried again."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM postponed")

    def _request_of(self, run: str) -> str:
        rows = self._connection.execute("SELECT request FROM requests WHERE run = ?", (run,))
        return next((str(request) for (request,) in rows), "")

    def _found_among(self, tasks: Iterable[int], query: str) -> set[int]:
        return {task for task in tasks if self._connection.execute(query, (task,)).fetchone()}

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
    return [Failure(task, reason) for task, reason in _rows_in(path, _FAILURES)]


def pictures_in(path: Path) -> PictureHashes:
    """Return the hashes of all pictures, by task, from a journal as in `failures_in`."""
    rows = np.array(_rows_in(path, _PICTURES), dtype=np.int64).reshape(-1, 3)
    return PictureHashes(rows[:, 0], rows[:, 1], rows[:, 2].astype(np.uint64))


def count_made_in(path: Path, request: str) -> int:
    """Return what `RunJournal.count_made` does, from a journal as in `failures_in`."""
    return sum(count for (count,) in _rows_in(path, _COUNT_MADE, request))


def _rows_in(path: Path, query: str, *parameters: str) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query, parameters).fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from None


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
