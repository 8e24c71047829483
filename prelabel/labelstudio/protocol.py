"""The wire models: what Label Studio sends. Unknown keys are ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from prelabel.errors import RequestError
from prelabel.settings import MAX_TASKS
from prelabel.types import PresentRegion, PromptRequest

_MOST_ENTRIES = 100_000
_MOST_DRAFTS = 1_000


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _null_is_empty(value: object) -> object:
    return [] if value is None else value


def _number_or_none(value: object) -> object:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text_or_none(value: object) -> object:
    return value if isinstance(value, str) else None


def _only_an_object(value: object) -> object:
    return value if isinstance(value, dict | BaseModel) else None


class ResultEntry(_Wire):
    """One entry of an annotation's result: a region, a text, a number.

    origin: "prediction" for what was taken over from one and not touched since; item_index: the
    picture's place in a list of pictures.
    """

    id: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    from_name: str | None = None
    to_name: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    type: str | None = None
    value: dict[str, JsonValue] | None = None
    origin: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    item_index: Annotated[int | None, BeforeValidator(_number_or_none)] = None
    original_width: Annotated[int | None, BeforeValidator(_number_or_none)] = None
    original_height: Annotated[int | None, BeforeValidator(_number_or_none)] = None


# Without FailFast, each wrong item of a list would be a fault of its own, larger than the item.
Entries = Annotated[
    tuple[ResultEntry, ...],
    FailFast(),
    Field(max_length=_MOST_ENTRIES),
    BeforeValidator(_null_is_empty),
]


class Draft(_Wire):
    """An annotation that its author has not submitted yet."""

    result: Entries = ()
    updated_at: str | None = None


class Task(_Wire):
    """One task. `drafts` come with interactive requests only; what is no number is no `id`."""

    id: Annotated[int | None, BeforeValidator(_number_or_none)] = None
    data: dict[str, JsonValue]
    drafts: Annotated[
        tuple[Draft, ...],
        FailFast(),
        Field(max_length=_MOST_DRAFTS),
        BeforeValidator(_null_is_empty),
    ] = ()


_LONGEST_KEY = 100
_LARGEST_PX = 1_000_000
_FARTHEST_PCT = 10_000  # of the picture; what is farther away is on none
_FAULT_DEPTH = 3  # names on the way to what is wrong


class BadTask(_Wire):
    """What stands in a task's place and is none; its neighbours are not affected."""

    fault: str
    id: int | None = None


def _task_or_fault(value: object) -> object:
    try:
        return Task.model_validate(value)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_input=False)
        place = ".".join(str(part) for part in first["loc"][:_FAULT_DEPTH])
        number = value.get("id") if isinstance(value, dict) else None
        return BadTask(
            fault=f"{place}: {first['msg']}".lstrip(": "),
            id=number if isinstance(number, int) else None,
        )


class Context(_Wire):
    """What the annotator has just done."""

    result: Entries = ()


class Params(_Wire):
    """Parameters of a prediction; `login` and `password` are of no use to us."""

    context: Context | None = None


class PredictRequest(_Wire):
    """Body of POST /predict."""

    tasks: Annotated[
        tuple[Annotated[Task | BadTask, PlainValidator(_task_or_fault)], ...],
        Field(max_length=MAX_TASKS),
    ]
    label_config: str
    project: str | int | None = None
    params: Params | None = None

    @property
    def context(self) -> Context | None:
        """What the annotator has just done; None for bulk requests."""
        return self.params.context if self.params else None


class SetupRequest(_Wire):
    """Body of POST /setup. The token it carries is not ours to use: it belongs to the creator.

    extra_params: what stands in "extra params" where the model is connected.
    """

    project: str | int | None = None
    label_config: str | None = Field(None, alias="schema")
    extra_params: JsonValue = None

    @property
    def asked(self) -> PromptRequest:
        """The project's prompt and thresholds, of its extra parameters. Raises RequestError for
        those that are none; other parameters are not read.
        """
        given = self.extra_params
        given = _parsed(given) if isinstance(given, str) else given  # forms send JSON as a text
        extra = {k.strip().lower(): v for k, v in given.items()} if isinstance(given, dict) else {}
        prompt = extra.get("prompt")
        if prompt is not None and not isinstance(prompt, str | list):
            raise RequestError(
                f"prompt in the extra parameters is {prompt!r}. Write a text: "
                '{"prompt": "cat . dog"}.'
            )
        return PromptRequest(
            _text(prompt),
            _threshold_of("box_threshold", _number(extra.get("box_threshold")), strict=True),
            _threshold_of("text_threshold", _number(extra.get("text_threshold")), strict=True),
        )


def _parsed(text: str) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        raise RequestError(
            f"The extra parameters are no JSON object: {text[:60]!r}. Write them as in "
            '{"prompt": "cat . dog"}.'
        ) from None
    return parsed


def _number(value: JsonValue) -> JsonValue:
    """A text that is a number, as one."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


class VersionsRequest(_Wire):
    """Body of POST /versions."""

    project: str | int | None = None


class TrainRequest(_Wire):
    """Body of POST /train."""

    annotations: list[JsonValue] | None = None


def _none_if_odd(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


class WebhookPrediction(_Wire):
    """The prediction that the task had when its annotation was made; {} without one."""

    result: Entries = ()


class WebhookAnnotation(_Wire):
    """The annotation of a webhook; `updated_at` orders the submits."""

    result: Entries = ()
    prediction: Annotated[WebhookPrediction | None, WrapValidator(_none_if_odd)] = None
    updated_at: AwareDatetime | None = None
    was_cancelled: bool | None = None


class WebhookTask(_Wire):
    """The task of a webhook's annotation."""

    data: dict[str, JsonValue] = {}


class WebhookProject(_Wire):
    """The project of a webhook."""

    id: int | None = None
    created_at: AwareDatetime | None = None
    label_config: str | None = None


class WebhookRequest(_Wire):
    """Body of POST /webhook."""

    action: str
    project: WebhookProject | int | None = None
    # Other actions send lists here; they are none of our business.
    annotation: Annotated[WebhookAnnotation | None, BeforeValidator(_only_an_object)] = None
    task: Annotated[WebhookTask | None, BeforeValidator(_only_an_object)] = None

    @property
    def project_key(self) -> str | None:
        """What the project is known by, see project_key; None where the event does not say."""
        if not isinstance(self.project, WebhookProject) or self.project.created_at is None:
            return None
        return key_of(self.project.id, self.project.created_at)

    @property
    def label_config(self) -> str | None:
        """The project's labeling config, where the event carries it."""
        return self.project.label_config if isinstance(self.project, WebhookProject) else None


def project_key(project: str | int | None) -> str | None:
    """What a project is known by: Label Studio sends "3.1795349150", its id and the second in which
    it was created, so that the projects of two Label Studios are not taken for one.
    """
    return None if project is None else str(project)[:_LONGEST_KEY]


def key_of(project_id: int | None, created_at: datetime) -> str:
    """The key that Label Studio makes of a project, see project_key."""
    return f"{project_id}.{int(created_at.timestamp())}"


@dataclass(frozen=True, slots=True)
class AskControls:
    """Names of the control tags in which annotators say what to look for."""

    prompt: str = "prompt"
    box_threshold: str = "box_threshold"
    text_threshold: str = "text_threshold"


def asked_in(
    entries: Sequence[ResultEntry], controls: AskControls, *, strict: bool = True
) -> PromptRequest:
    """The prompt and thresholds that stand in an annotation's result, found by name.

    Of several entries of one name, the last counts. A number that is no threshold raises
    RequestError; where nobody waits for its sentence (not strict), it says nothing.
    """
    asked = PromptRequest()
    for entry in entries:
        asked = _asked_by(entry, controls, strict).or_else(asked)
    return asked


def boxes_in(entries: Sequence[ResultEntry]) -> tuple[PresentRegion, ...]:
    """The boxes that stand in an annotation's result. Entries of another form are overlooked."""
    labelled = {entry.id for entry in entries if entry.type == "labels" and _label_of(entry)}
    return tuple(
        PresentRegion(entry.to_name or "", entry.item_index, _label_of(entry), box)
        for entry in entries
        if entry.type in ("rectanglelabels", "labels")
        or (entry.type == "rectangle" and entry.id not in labelled)
        if (box := _box_of(entry)) is not None
    )


def _label_of(entry: ResultEntry) -> str | None:
    labels = (entry.value or {}).get(entry.type or "")
    first = labels[0] if isinstance(labels, list) and labels else None
    return first if isinstance(first, str) else None


def _box_of(entry: ResultEntry) -> tuple[float, float, float, float] | None:
    """Corners of the upright box around a region, in percent.

    Label Studio turns a region about its top left corner, clockwise, in pixels of the picture.
    """
    value = entry.value or {}
    numbers = [value.get(name) for name in ("x", "y", "width", "height")]
    numbers.append(value.get("rotation", 0))
    if not all(isinstance(n, int | float) and abs(n) <= _FARTHEST_PCT for n in numbers):
        return None
    x, y, width, height, degrees = (float(n) for n in numbers if isinstance(n, int | float))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    width_px, height_px = entry.original_width or 0, entry.original_height or 0
    known = 0 < width_px <= _LARGEST_PX and 0 < height_px <= _LARGEST_PX
    aspect = height_px / width_px if known else 1.0
    xs = [x, x + width * cos, x - height * aspect * sin, x + width * cos - height * aspect * sin]
    ys = [y, y + width / aspect * sin, y + height * cos, y + width / aspect * sin + height * cos]
    return min(xs), min(ys), max(xs), max(ys)


def _asked_by(entry: ResultEntry, controls: AskControls, strict: bool) -> PromptRequest:
    if entry.type == "textarea" and entry.from_name == controls.prompt:
        return PromptRequest(prompt=_text((entry.value or {}).get("text")))
    if entry.type == "number" and entry.from_name == controls.box_threshold:
        return PromptRequest(box_threshold=_fraction(entry, strict))
    if entry.type == "number" and entry.from_name == controls.text_threshold:
        return PromptRequest(text_threshold=_fraction(entry, strict))
    return PromptRequest()


def _text(value: JsonValue) -> str | None:
    lines = value if isinstance(value, list) else [value]
    text = " . ".join(line.strip() for line in lines if isinstance(line, str) and line.strip())
    return text or None


def _fraction(entry: ResultEntry, strict: bool) -> float | None:
    number = (entry.value or {}).get("number")
    return _threshold_of(entry.from_name or "", number, strict=strict)


def _threshold_of(name: str, number: JsonValue, *, strict: bool) -> float | None:
    if number is None:
        return None
    if isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= 1:
        return float(number)
    if strict:
        raise RequestError(f"{name} is {number!r}. Use a number from 0 to 1.")
    return None
