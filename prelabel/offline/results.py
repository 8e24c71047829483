"""The output folder of a run: shards of tasks, and the items that failed.

    manifest.json, label_config.xml
    tasks/tasks-000000.jsonl       whole shards
    tasks/tasks-000001.jsonl.part  the shard that grows; lines are added to its end
    failed.jsonl                   the items without predictions, with the reasons
    .index.sqlite, .lock

A process may be killed at any moment. A line that is not whole is cut off at the next start.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from prelabel.labelstudio.task_rows import key_of_line
from prelabel.offline.items import OutputError
from prelabel.offline.key_index import FAILED, KeyIndex
from prelabel.offline.manifest import Manifest, enter_folder
from prelabel.offline.predictor import Failure, Row

SHARD_ROWS: Final = 1_000
TASKS: Final = "tasks"
FAILED_NAME: Final = "failed.jsonl"
_PART: Final = ".part"


class ResultFolder:
    """The folder of a run, opened for writing.

    Args:
        folder: The folder.
        manifest: The facts of the run.
        shard_rows: Rows of a whole shard.

    Raises:
        OutputError: The folder belongs to another run or is open in another process, or cannot be
            written. All methods raise it.
    """

    def __init__(self, folder: Path, manifest: Manifest, shard_rows: int = SHARD_ROWS) -> None:
        enter_folder(folder, manifest)
        self.folder, self._shard_rows = folder, shard_rows
        with self._faults():
            self._lock = self._locked()
            (folder / TASKS).mkdir(exist_ok=True)
            self._index = KeyIndex(folder / ".index.sqlite")
            self._number, self._rows = self._compare()
            self._failed = self._open_failed()
            self._part: BinaryIO | None = None

    def known(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether it has a row or failed."""
        return self._index.known(keys)

    @property
    def lock(self) -> int:
        """File descriptor of the lock; a process that inherits it keeps the folder locked."""
        return self._lock.fileno()

    def counts(self) -> tuple[int, int]:
        """Return the numbers of rows and of failed items."""
        return self._index.count(failed=False), self._index.count(failed=True)

    def add(self, rows: Sequence[Row], failures: Sequence[Failure]) -> None:
        """Store rows and failures; they are on the disk when the method returns."""
        with self._faults():
            while rows:
                room = self._shard_rows - self._rows
                self._append(rows[:room])
                rows = rows[room:]
            if failures:
                self._failed.write(b"".join(_failed_line(each) for each in failures))
                _to_disk(self._failed)
                self._index.add((each.key for each in failures), FAILED)

    def forget_failures(self) -> None:
        """Forget the items that failed, so that they are tried again."""
        with self._faults():
            self._failed.truncate(0)
            _to_disk(self._failed)
            self._index.forget(FAILED)

    def end_shard(self) -> None:
        """Make the growing shard a whole one, whatever its number of rows."""
        with self._faults():
            if self._part is not None:
                self._part.close()
                self._part = None
            if self._rows:
                self._index.close_shard(self._number, self._part_path.stat().st_size)
                self._part_path.rename(self._part_path.with_suffix(""))
                self._number, self._rows = self._number + 1, 0

    def close(self) -> None:
        """Close all files."""
        for file in (self._part, self._failed, self._lock):
            # A write that failed is tried once more, and the method that wrote has said so.
            with suppress(OSError):
                if file is not None:
                    file.close()
        self._index.close()

    @property
    def _part_path(self) -> Path:
        return self.folder / TASKS / f"{_shard_name(self._number)}{_PART}"

    def _append(self, rows: Sequence[Row]) -> None:
        if self._part is None:
            self._part = self._part_path.open("ab")
        self._part.write(b"".join(row.line for row in rows))
        _to_disk(self._part)
        self._index.add((row.key for row in rows), self._number)
        self._rows += len(rows)
        if self._rows >= self._shard_rows:
            self.end_shard()

    def _locked(self) -> BinaryIO:
        lock = (self.folder / ".lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise OutputError(
                f"Another process writes to {self.folder}. Wait until it has ended."
            ) from error
        return lock

    def _compare(self) -> tuple[int, int]:
        """Compare the index with the files. Return the number of the growing shard and its rows."""
        sizes = {_shard_number(path): path.stat().st_size for path in shard_paths(self.folder)}
        indexed = self._index.shards()
        for number in indexed.keys() | sizes.keys():
            if indexed.get(number) != sizes.get(number):
                self._index.forget(number)
                if number in sizes:
                    path = self.folder / TASKS / _shard_name(number)
                    self._index.add(_keys(path), number)
                    self._index.close_shard(number, sizes[number])
        number = max(sizes, default=-1) + 1
        self._index.forget(number)
        for part in (self.folder / TASKS).glob(f"tasks-*.jsonl{_PART}"):
            if part.name != f"{_shard_name(number)}{_PART}":
                part.unlink()  # a shard of that name is whole
        part = self.folder / TASKS / f"{_shard_name(number)}{_PART}"
        keys = _whole_lines(part)
        self._index.add(keys, number)
        return number, len(keys)

    def _open_failed(self) -> BinaryIO:
        path = self.folder / FAILED_NAME
        self._index.forget(FAILED)
        self._index.add((key for key, _ in failures_in(self.folder)), FAILED)
        with path.open("ab+") as file:
            _cut(file)
        return path.open("ab")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written ({error.strerror}). Free space on its disk and "
                "check its permissions, then run the same command again to continue."
            ) from error


def shard_paths(folder: Path) -> list[Path]:
    """Return the whole shards of an output folder, in order."""
    return sorted((folder / TASKS).glob("tasks-*.jsonl"))


def failures_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield key and reason of each item that failed."""
    path = folder / FAILED_NAME
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                failure = json.loads(line)
                yield failure["input"], failure["error"]


def _failed_line(failure: Failure) -> bytes:
    return json.dumps({"input": failure.key, "error": failure.reason}).encode() + b"\n"


def _shard_name(number: int) -> str:
    return f"tasks-{number:06}.jsonl"


def _shard_number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _keys(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as lines:
            for line in lines:
                yield key_of_line(line)
    except ValueError as error:
        raise OutputError(
            f"The shard {path} is damaged. Remove it, and run the same command again."
        ) from error


def _whole_lines(path: Path) -> list[str]:
    """Return the keys of the growing shard, and cut off a line that is not whole."""
    if not path.exists():
        return []
    with path.open("rb+") as file:
        _cut(file)
    return list(_keys(path))


def _cut(file: BinaryIO) -> None:
    """Cut off what follows the last end of a line."""
    step, end = 1 << 16, file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        start = max(0, at - step)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            file.truncate(start + found + 1)
            return
        at = start
    file.truncate(0)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
