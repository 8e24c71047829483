"""The items of an input, and the errors about inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from prelabel.errors import PrelabelError


class InputError(PrelabelError):
    """The input cannot be read."""


class OutputError(PrelabelError):
    """The output cannot be written, or belongs to another run."""


@dataclass(frozen=True, slots=True)
class Item:
    """One task of the input.

    Attributes:
        key: Identifies it within the input: the path of a picture, or a digest of a task's data.
        data: The task's data.
        place: Path or URI of its picture, if the data's own address is not the place to read it.
        more: Further keys of the task, which are written as they were read.
        fault: A sentence: why there is no task. The item then counts as failed.
    """

    key: str
    data: Mapping[str, JsonValue] = field(default_factory=dict)
    place: str | None = None
    more: Mapping[str, JsonValue] = field(default_factory=dict)
    fault: str | None = None


class Source(Protocol):
    """An input."""

    def items(self) -> Iterator[Item]:
        """Yield the items in an order that depends on the input alone.

        Raises InputError if the input cannot be read.
        """


Read = Callable[[str], bytes]
"""Returns the bytes of a picture by its path or address. Raises ImageFetchError."""
