"""The entries of an annotation's result, and the prompts that they contain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, JsonValue

from prelabel.errors import RequestError
from prelabel.labelstudio.shapes import BOX_TYPES
from prelabel.types import MaskPrompt, PromptRequest

_MOST_ENTRIES = 100_000
_MOST_PIXELS = 1_000_000  # of a picture's width or height
_POINTING_TYPES = ("keypointlabels", "keypoint", *BOX_TYPES)
_MOST_PCT = 10_000  # of the picture's size; a region beyond that is outside of every picture


BoxPct = tuple[float, float, float, float]  # left, top, right and bottom in percent of the picture


class WireModel(BaseModel):
    """Base of the models of Label Studio's JSON. Unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def null_as_empty(value: object) -> object:
    """Return [] for null, which Label Studio sends for some empty lists."""
    return [] if value is None else value


def int_or_none(value: object) -> object:
    """Return None for any value that is not an integer."""
    # bool is a subclass of int.
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text_or_none(value: object) -> object:
    return value if isinstance(value, str) else None


def _true_unless_false(value: object) -> object:
    return value is not False


class ResultEntry(WireModel):
    """One entry of an annotation's result: a region, a text or a number.

    Attributes:
        origin: "prediction" if the entry was copied from a prediction and not changed since.
        item_index: The picture's index in a list of pictures.
        is_positive: False for a click beside the object, with which the annotator corrects a mask.
        parent_id: Id of the region that this one belongs to, such as the box of a mask.
    """

    id: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    from_name: str | None = None
    to_name: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    type: str | None = None
    value: dict[str, JsonValue] | None = None
    origin: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    item_index: Annotated[int | None, BeforeValidator(int_or_none)] = None
    is_positive: Annotated[bool, BeforeValidator(_true_unless_false)] = True
    original_width: Annotated[int | None, BeforeValidator(int_or_none)] = None
    original_height: Annotated[int | None, BeforeValidator(int_or_none)] = None
    parent_id: Annotated[str | None, BeforeValidator(_text_or_none), Field(alias="parentID")] = None

    @property
    def original_wh(self) -> tuple[int, int] | None:
        """Width and height of the picture in pixels; None if they are missing or no sizes."""
        width, height = self.original_width or 0, self.original_height or 0
        if 0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS:
            return width, height
        return None


# Without FailFast, pydantic reports one error per invalid item, each larger than the item.
Entries = Annotated[
    tuple[ResultEntry, ...],
    FailFast(),
    Field(max_length=_MOST_ENTRIES),
    BeforeValidator(null_as_empty),
]


@dataclass(frozen=True, slots=True)
class PromptControls:
    """Names of the control tags that hold the prompt and the thresholds."""

    prompt: str = "prompt"
    box_threshold: str = "box_threshold"
    text_threshold: str = "text_threshold"


def prompt_request_of(
    entries: Sequence[ResultEntry], controls: PromptControls, *, strict: bool = True
) -> PromptRequest:
    """Return the prompt and thresholds in an annotation's result. The last entry of a name counts.

    Args:
        entries: The annotation's result.
        controls: The names of the control tags.
        strict: False ignores thresholds that are not numbers from 0 to 1, for annotations that
            no annotator has just typed.

    Raises:
        RequestError: A threshold is not a number from 0 to 1, and `strict` is True.
    """
    merged = PromptRequest()
    for entry in entries:  # later entries have precedence
        merged = _request_of_entry(entry, controls, strict).or_else(merged)
    return merged


def prompt_text(value: JsonValue) -> str | None:
    """Return the prompt of a text area, which has one text or a list of texts; None if empty."""
    lines = value if isinstance(value, list) else [value]
    text = " . ".join(line.strip() for line in lines if isinstance(line, str) and line.strip())
    return text or None


def threshold_or_none(name: str, number: JsonValue, *, strict: bool) -> float | None:
    """Return a threshold if it is a number from 0 to 1; None if it is null.

    Raises:
        RequestError: It is any other value, and `strict` is True.
    """
    if number is None:
        return None
    if isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= 1:
        return float(number)
    if strict:
        raise RequestError(f"{name} is {number!r}. Use a number from 0 to 1.")
    return None


@dataclass(frozen=True, slots=True)
class PointedObject:
    """An object that an annotator clicked on, or drew a box around, with a smart tool.

    Attributes:
        to_name: Name of the object tag.
        item_index: Index of the picture in a list of pictures, None for a single picture.
        label: The label that was selected, None without one.
        prompt_pct: The clicks or the box, in percent of the upright picture.
    """

    to_name: str
    item_index: int | None
    label: str | None
    prompt_pct: MaskPrompt


def pointed_objects(entries: Sequence[ResultEntry]) -> list[PointedObject]:
    """Return the objects that an annotator pointed at with smart tools.

    Label Studio sends all clicks that are not accepted yet: those with one label are one object.
    Of rectangles each one is an object. Key points and rectangles never come together.
    """
    labels = {entry.id: label_of(entry) for entry in entries if entry.type == "labels"}
    clicks: dict[tuple[str, int | None, str | None], list[tuple[tuple[float, float], bool]]] = {}
    objects: list[PointedObject] = []
    for entry in entries:
        if entry.type not in _POINTING_TYPES:
            continue
        label = label_of(entry) or labels.get(entry.id)
        if entry.type in ("keypointlabels", "keypoint"):
            if (point := _point_pct(entry)) is not None:
                key = (entry.to_name or "", entry.item_index, label)
                clicks.setdefault(key, []).append((point, entry.is_positive))
        elif (box := box_pct(entry)) is not None:
            prompt = MaskPrompt(box_xyxy=box)
            objects.append(PointedObject(entry.to_name or "", entry.item_index, label, prompt))
    for (to_name, item_index, label), points in clicks.items():
        xy, inside = zip(*points, strict=True)
        objects.append(PointedObject(to_name, item_index, label, MaskPrompt(None, xy, inside)))
    return objects


def _point_pct(entry: ResultEntry) -> tuple[float, float] | None:
    x, y = ((entry.value or {}).get(name) for name in ("x", "y"))
    if not all(is_pct(number) for number in (x, y)):
        return None
    return float(x), float(y)  # type: ignore[arg-type]


def is_pct(number: JsonValue) -> bool:
    """Return True for a number from 0 to 100."""
    # Comparisons are False for NaN.
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= 100


def _request_of_entry(entry: ResultEntry, controls: PromptControls, strict: bool) -> PromptRequest:
    if entry.type == "textarea" and entry.from_name == controls.prompt:
        return PromptRequest(prompt=prompt_text((entry.value or {}).get("text")))
    if entry.type == "number" and entry.from_name == controls.box_threshold:
        return PromptRequest(box_threshold=_number_of(entry, strict))
    if entry.type == "number" and entry.from_name == controls.text_threshold:
        return PromptRequest(text_threshold=_number_of(entry, strict))
    return PromptRequest()


def _number_of(entry: ResultEntry, strict: bool) -> float | None:
    number = (entry.value or {}).get("number")
    return threshold_or_none(entry.from_name or "", number, strict=strict)


def label_of(entry: ResultEntry) -> str | None:
    """Return the first label of a region, None without one."""
    labels = (entry.value or {}).get(entry.type or "")
    first = labels[0] if isinstance(labels, list) and labels else None
    return first if isinstance(first, str) else None


def box_pct(entry: ResultEntry) -> BoxPct | None:
    """Return the corners of the upright box around a region, in percent of the picture.

    Label Studio rotates a region clockwise about its top left corner, in pixels of the picture.
    """
    value = entry.value or {}
    numbers = [value.get(name) for name in ("x", "y", "width", "height")]
    numbers.append(value.get("rotation", 0))
    if not all(isinstance(n, int | float) and abs(n) <= _MOST_PCT for n in numbers):
        return None
    x, y, width, height, degrees = (float(n) for n in numbers if isinstance(n, int | float))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Width and height have different units in percent, so that rotating mixes them by the aspect.
    aspect = entry.original_wh[1] / entry.original_wh[0] if entry.original_wh else 1.0
    xs = [x, x + width * cos, x - height * aspect * sin, x + width * cos - height * aspect * sin]
    ys = [y, y + width / aspect * sin, y + height * cos, y + width / aspect * sin + height * cos]
    return min(xs), min(ys), max(xs), max(ys)
