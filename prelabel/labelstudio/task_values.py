"""What a labeling config's `$field` means in a task, as Label Studio's page reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue

_VARIABLE = re.compile(r"\$[\w\[\].{}-]+")
_PART = re.compile(r"[^.\[\]]+")


def resolve(value: str, data: Mapping[str, JsonValue]) -> JsonValue:
    """The value of "$field", "$list[0].url" or "https://host/$file"; None where there is none.

    A lone variable keeps its type, inside a longer text it becomes part of it.
    """
    if _VARIABLE.fullmatch(value):
        return _look_up(data, value[1:])
    return _VARIABLE.sub(lambda found: _text(_look_up(data, found[0][1:])), value)


def _look_up(data: Mapping[str, JsonValue], key: str) -> JsonValue:
    if key in data:  # a name may hold dots
        return data[key]
    found: JsonValue = dict(data)
    for part in _PART.findall(key):
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def _text(found: JsonValue) -> str:
    return str(found) if isinstance(found, str | int | float) else ""
