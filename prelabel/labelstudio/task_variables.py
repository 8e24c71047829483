"""The variables of a labeling config (`$field`), resolved in a task as Label Studio's page does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from prelabel.errors import RequestError

_VARIABLE = re.compile(r"\$[\w\[\].{}-]+")
_PATH_PART = re.compile(r"[^.\[\]]+")
_MOST_INDEX_DIGITS = 9  # int() raises ValueError for numbers of several thousand digits
_LONGEST_TEXT = 10_000  # characters of a text with its values, without the longest value


def resolve(value: str, data: Mapping[str, JsonValue]) -> JsonValue:
    """Return the value of "$field", "$list[0].url" or "https://host/$file" in a task.

    Args:
        value: An attribute of a tag.
        data: The task's data.

    Returns:
        The task's value with its type if the attribute is one variable, and None if the task has
        none. Else the text with the values in it.

    Raises:
        RequestError: The text repeats the task's values too often.
    """
    # A variable alone keeps the type of its value, because lists and objects are values, too.
    if _VARIABLE.fullmatch(value):
        return _look_up(data, value[1:])
    _check_length(value, data)
    return _VARIABLE.sub(lambda match: _as_text(_look_up(data, match[0][1:])), value)


def _check_length(text: str, data: Mapping[str, JsonValue]) -> None:
    # The longest value is not counted, because it may be a whole picture in a data: URL. A config
    # has room to repeat it a hundred thousand times.
    length, longest = len(text), 0
    for variable in _VARIABLE.finditer(text):
        size = len(_as_text(_look_up(data, variable[0][1:])))
        length, longest = length + size, max(longest, size)
        if length - longest > _LONGEST_TEXT:
            raise RequestError(
                f"One attribute of the labeling config has more than {_LONGEST_TEXT} characters "
                "with the task's values. Use fewer variables in it."
            )


def _look_up(data: Mapping[str, JsonValue], key: str) -> JsonValue:
    if key in data:  # the name of a field may contain dots
        return data[key]
    first, *rest = _PATH_PART.findall(key) or [""]
    value = data.get(first)
    for part in rest:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and _is_index(part, value):
            value = value[int(part)]
        else:
            return None
    return value


def _is_index(part: str, items: Sequence[JsonValue]) -> bool:
    return part.isdecimal() and len(part) <= _MOST_INDEX_DIGITS and int(part) < len(items)


def _as_text(value: JsonValue) -> str:
    return str(value) if isinstance(value, str | int | float) else ""
