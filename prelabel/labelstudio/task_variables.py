"""What a labeling config's `$field` means in a task, as Label Studio's page reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from prelabel.errors import RequestError

_VARIABLE = re.compile(r"\$[\w\[\].{}-]+")
_PART = re.compile(r"[^.\[\]]+")
_LONGEST_NUMBER = 9  # digits; Python refuses to read very long ones
_LONGEST_TEXT = 10_000  # characters of a text with variables in it, its longest value not counted


def resolve(value: str, data: Mapping[str, JsonValue]) -> JsonValue:
    """The value of "$field", "$list[0].url" or "https://host/$file"; None where there is none.

    A lone variable keeps its type, inside a longer text it becomes part of it. Raises RequestError
    for a text that would be out of all proportion to what the task brings.
    """
    if _VARIABLE.fullmatch(value):
        return _look_up(data, value[1:])
    _check_length(value, data)
    return _VARIABLE.sub(lambda found: _text(_look_up(data, found[0][1:])), value)


def _check_length(text: str, data: Mapping[str, JsonValue]) -> None:
    """One value may be a whole picture; but a config can name it a hundred thousand times."""
    length, longest = len(text), 0
    for variable in _VARIABLE.finditer(text):
        size = len(_text(_look_up(data, variable[0][1:])))
        length, longest = length + size, max(longest, size)
        if length - longest > _LONGEST_TEXT:
            raise RequestError(
                f"The labeling config makes more than {_LONGEST_TEXT} characters of the task's "
                "values in one place. Let it name fewer of them there."
            )


def _look_up(data: Mapping[str, JsonValue], key: str) -> JsonValue:
    if key in data:  # a name may hold dots
        return data[key]
    first, *rest = _PART.findall(key) or [""]
    found = data.get(first)
    for part in rest:
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and _is_place(part, found):
            found = found[int(part)]
        else:
            return None
    return found


def _is_place(part: str, items: Sequence[JsonValue]) -> bool:
    return part.isdecimal() and len(part) <= _LONGEST_NUMBER and int(part) < len(items)


def _text(found: JsonValue) -> str:
    return str(found) if isinstance(found, str | int | float) else ""
