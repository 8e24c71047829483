"""Tasks in a file: JSON lines, a JSON list, or Parquet."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from prelabel.offline.buckets import require_pyarrow
from prelabel.offline.items import InputError, Item

SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".parquet")
_MAX_LINE_BYTES: Final = 256 * 1024 * 1024  # a task may hold its picture
_ROWS: Final = 256  # of a Parquet file at a time
_KEY_CHARS: Final = 32
# Predictions of the input are replaced, and Label Studio gives new ids.
_REPLACED: Final = ("data", "predictions", "id")


class TaskFileSource:
    """The tasks of a file, in their order. Tasks with equal data have equal keys.

    Args:
        file: A .jsonl, .json or .parquet file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def items(self) -> Iterator[Item]:
        """Yield the tasks. Lines that are not tasks are faults.

        Raises InputError if the file cannot be read.
        """
        suffix = self._file.suffix.lower()
        try:
            if suffix == ".parquet":
                yield from self._rows()
            elif suffix == ".json":
                yield from self._list()
            else:
                yield from self._lines()
        except OSError as error:
            raise InputError(
                f"{self._file} cannot be read ({error.strerror or error}). Correct --input."
            ) from error

    def _lines(self) -> Iterator[Item]:
        with self._file.open("rb") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                while not line.endswith(b"\n") and (rest := lines.readline(_MAX_LINE_BYTES)):
                    line = b"x"  # too long: no JSON
                    if rest.endswith(b"\n"):
                        break
                if line.strip():
                    yield _parsed(line, f"line {number}")

    def _list(self) -> Iterator[Item]:
        try:
            tasks = json.loads(self._file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{self._file} is not valid JSON ({error}). Correct it, or give a .jsonl file."
            ) from error
        for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], start=1):
            yield _item(task, f"task {number}")

    def _rows(self) -> Iterator[Item]:
        require_pyarrow("Reading a Parquet file")
        parquet = importlib.import_module("pyarrow.parquet")
        try:
            with parquet.ParquetFile(self._file) as file:
                number = 0
                for batch in file.iter_batches(_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield _item(_plain(row), f"row {number}")
        except ValueError as error:  # ArrowInvalid
            raise InputError(
                f"{self._file} is not a Parquet file ({error}). Correct it."
            ) from error


def _parsed(line: bytes, place: str) -> Item:
    try:
        return _item(json.loads(line), place)
    except (ValueError, RecursionError):
        return Item(place, fault="The line is not valid JSON. Write one task a line.")


def _item(task: JsonValue, place: str) -> Item:
    """Return a task of the form {"data": {...}}, or its data alone."""
    if not isinstance(task, dict):
        return Item(place, fault='It is not a task. Write an object such as {"image": "..."}.')
    data = task.get("data")
    if isinstance(data, str):  # a Parquet column of JSON
        try:
            data = json.loads(data)
        except ValueError:
            data = None
    more: Mapping[str, JsonValue] = {}
    if isinstance(data, dict):
        more = {name: value for name, value in task.items() if name not in _REPLACED}
    elif "data" in task and set(task) & {"predictions", "annotations", "id", "meta"}:
        return Item(place, fault="The task's data is not an object. Correct it.")
    else:
        data = task
    try:
        # Label Studio does not import NaN and lone surrogates, which Python's JSON accepts.
        json.dumps(task, allow_nan=False, ensure_ascii=False).encode()
        canonical = json.dumps(data, sort_keys=True, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        return Item(place, fault="The task has values that are not JSON. Correct it.")
    return Item(hashlib.sha256(canonical).hexdigest()[:_KEY_CHARS], data, more=more)


def _plain(row: dict[str, JsonValue]) -> JsonValue:
    """Return a row of a Parquet file without its empty cells."""
    return {name: value for name, value in row.items() if value is not None}
