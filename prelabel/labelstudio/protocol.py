"""The wire models of the requests that Label Studio sends. Unknown keys are ignored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    FailFast,
    Field,
    JsonValue,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from prelabel.errors import RequestError
from prelabel.labelstudio.present_regions import present_regions
from prelabel.labelstudio.result_entries import (
    Entries,
    WireModel,
    int_or_none,
    null_as_empty,
    prompt_text,
    threshold_or_none,
)
from prelabel.settings import MAX_TASKS
from prelabel.types import PresentRegion, PromptRequest

_MOST_DRAFTS = 1_000
_LONGEST_PROJECT_KEY = 100  # characters; Label Studio's have about 12
_FAULT_DEPTH = 3  # segments of the path to an invalid value that an error message shows
_MOST_QUOTED = 60  # characters of an invalid value in an error message


def _object_or_none(value: object) -> object:
    return value if isinstance(value, dict | BaseModel) else None


def _list_or_empty(value: object) -> object:
    return value if isinstance(value, list) else ()


class Draft(WireModel):
    """An annotation that its author has not submitted yet."""

    result: Entries = ()
    updated_at: str | None = None


class Task(WireModel):
    """One task. Only interactive requests contain `drafts` and `annotations`.

    Attributes:
        id: None if it is invalid.
        data: The values that the labeling config shows.
        drafts: The annotations that their authors have not submitted yet.
        annotations: The submitted annotations, not parsed.
    """

    id: Annotated[int | None, BeforeValidator(int_or_none)] = None
    data: dict[str, JsonValue]
    drafts: Annotated[
        tuple[Draft, ...],
        FailFast(),
        Field(max_length=_MOST_DRAFTS),
        BeforeValidator(null_as_empty),
    ] = ()
    annotations: Annotated[Sequence[Any], BeforeValidator(_list_or_empty)] = ()

    @cached_property
    def newest_drafts(self) -> list[Draft]:
        """The drafts, the newest first."""
        # Timestamps in ISO 8601 sort as texts.
        return sorted(self.drafts, key=lambda draft: draft.updated_at or "", reverse=True)


class InvalidTask(WireModel):
    """An item of `tasks` that is not a task. The request's other tasks are not affected.

    fault: the path to the invalid value, and the validation error.
    """

    fault: str
    id: int | None = None


def _parse_task(value: object) -> object:
    try:
        return Task.model_validate(value)
    except ValidationError as error:
        # Without the input, because a task may have megabytes.
        [first, *_] = error.errors(include_url=False, include_input=False)
        path = ".".join(str(part) for part in first["loc"][:_FAULT_DEPTH])
        task_id = value.get("id") if isinstance(value, dict) else None
        return InvalidTask(
            fault=f"{path}: {first['msg']}".lstrip(": "),
            id=task_id if isinstance(task_id, int) else None,
        )


class Context(WireModel):
    """The regions and texts that the annotator has just entered."""

    result: Entries = ()

    @cached_property
    def present(self) -> tuple[PresentRegion, ...]:
        """The regions that the annotation already has. Masks are read at the first use only."""
        return present_regions(self.result)


def _prompt_or_none(value: object) -> object:
    return prompt_text(value) if isinstance(value, str) else value


Threshold = Annotated[float | None, Field(ge=0, le=1)]


class Params(WireModel):
    """Parameters of a prediction. Its `login` and `password` are not used.

    Label Studio sends only `context`. The other ones are a prompt and thresholds for all tasks of
    the request, and stand in no annotation.
    """

    context: Context | None = None
    prompt: Annotated[str | None, BeforeValidator(_prompt_or_none)] = None
    box_threshold: Threshold = None
    text_threshold: Threshold = None


class PredictRequest(WireModel):
    """Body of POST /predict."""

    tasks: Annotated[
        tuple[Annotated[Task | InvalidTask, PlainValidator(_parse_task)], ...],
        Field(max_length=MAX_TASKS),
    ]
    label_config: str
    project: str | int | None = None
    params: Params | None = None

    @property
    def context(self) -> Context | None:
        """The annotator's context; None for bulk requests."""
        return self.params.context if self.params else None

    @property
    def prompt_request(self) -> PromptRequest:
        """The prompt and thresholds for all tasks of the request."""
        if self.params is None:
            return PromptRequest()
        return PromptRequest(
            self.params.prompt, self.params.box_threshold, self.params.text_threshold
        )


class SetupRequest(WireModel):
    """Body of POST /setup.

    Its access token is not used: it belongs to the user who created the project. `extra_params` is
    the field "Extra params" of the form that connects the model.
    """

    project: str | int | None = None
    label_config: str | None = Field(None, alias="schema")
    extra_params: JsonValue = None

    @property
    def prompt_request(self) -> PromptRequest:
        """The prompt and thresholds in the extra parameters. Other parameters are ignored.

        Raises:
            RequestError: One of them is invalid.
        """
        params = self.extra_params
        # The form sends JSON as a text.
        params = _parse_json(params) if isinstance(params, str) else params
        # Names are typed by hand, so that case and spaces are ignored.
        by_name = (
            {name.strip().lower(): value for name, value in params.items()}
            if isinstance(params, dict)
            else {}
        )
        prompt = by_name.get("prompt")
        if prompt is not None and not isinstance(prompt, str | list):
            raise RequestError(
                f"prompt in the extra parameters is {prompt!r}. Write a text: "
                '{"prompt": "cat . dog"}.'
            )
        box, text = (
            threshold_or_none(name, _parse_number(by_name.get(name)), strict=True)
            for name in ("box_threshold", "text_threshold")
        )
        return PromptRequest(prompt_text(prompt), box, text)


def _parse_json(text: str) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        raise RequestError(
            f"The extra parameters are not a JSON object: {text[:_MOST_QUOTED]!r}. Write them as "
            'in {"prompt": "cat . dog"}.'
        ) from None
    return parsed


def _parse_number(value: JsonValue) -> JsonValue:
    """Return the number in a text; any other value as it is."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


class VersionsRequest(WireModel):
    """Body of POST /versions."""

    project: str | int | None = None


class TrainRequest(WireModel):
    """Body of POST /train."""

    annotations: list[JsonValue] | None = None


def _none_if_invalid(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


class WebhookPrediction(WireModel):
    """The prediction that the task had when its annotation was created; {} without one."""

    result: Entries = ()


class WebhookAnnotation(WireModel):
    """The annotation of a webhook; `updated_at` orders the submits."""

    result: Entries = ()
    # The prediction matters only for its prompt, so that an invalid one does not fail the webhook.
    prediction: Annotated[WebhookPrediction | None, WrapValidator(_none_if_invalid)] = None
    updated_at: AwareDatetime | None = None
    was_cancelled: bool | None = None


class WebhookTask(WireModel):
    """The task of a webhook's annotation."""

    data: dict[str, JsonValue] = Field(default_factory=dict)


class WebhookProject(WireModel):
    """The project of a webhook."""

    id: int | None = None
    created_at: AwareDatetime | None = None
    label_config: str | None = None


class WebhookRequest(WireModel):
    """Body of POST /webhook."""

    action: str
    project: WebhookProject | int | None = None
    # Actions that are not used here have lists in these places.
    annotation: Annotated[WebhookAnnotation | None, BeforeValidator(_object_or_none)] = None
    task: Annotated[WebhookTask | None, BeforeValidator(_object_or_none)] = None

    @property
    def project_key(self) -> str | None:
        """The key under which the project's prompts are stored; None if the event has none."""
        if not isinstance(self.project, WebhookProject) or self.project.created_at is None:
            return None
        return key_of(self.project.id, self.project.created_at)

    @property
    def label_config(self) -> str | None:
        """The project's labeling config, if the event contains it."""
        return self.project.label_config if isinstance(self.project, WebhookProject) else None


def project_key(project: str | int | None) -> str | None:
    """Return the key of a project from the `project` field of a request.

    Label Studio sends "3.1795349150": the project's id, and the second in which it was created. So
    projects of two Label Studios that share this service have different keys.
    """
    return None if project is None else str(project)[:_LONGEST_PROJECT_KEY]


def key_of(project_id: int | None, created_at: datetime) -> str:
    """Return the key that Label Studio composes for a project; see `project_key`."""
    return f"{project_id}.{int(created_at.timestamp())}"
