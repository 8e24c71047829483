"""The wire models: what Label Studio is answered."""

from __future__ import annotations

from typing import Literal, NotRequired, final

from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

_BOX_TYPES = ("rectanglelabels", "rectangle")


class RegionValue(TypedDict):
    """Percent of the upright picture; rotation in degrees. What the labels are called depends on
    the control tag.
    """

    x: float
    y: float
    width: float
    height: float
    rotation: int
    rectanglelabels: NotRequired[list[str]]
    labels: NotRequired[list[str]]


class RegionMeta(TypedDict):
    """Notes on a region; Label Studio's page shows them with it."""

    text: list[str]


class Region(TypedDict):
    """A box: one entry, or a `rectangle` and its `labels` under one id.

    Without a label it has no `rectanglelabels`, or no `labels` beside it, and notes in `meta` what
    was looked for. Label Studio's page shows a grey box then.
    """

    id: str
    from_name: str
    to_name: str
    type: Literal["rectanglelabels", "rectangle", "labels"]
    origin: NotRequired[str]
    original_width: int
    original_height: int
    image_rotation: int
    item_index: NotRequired[int]
    score: float
    value: RegionValue
    meta: NotRequired[RegionMeta]


class TextRegion(TypedDict):
    """A text of the whole picture: the prompt, echoed."""

    id: str
    from_name: str
    to_name: str
    type: Literal["textarea"]
    value: dict[str, list[str]]


class Match(TypedDict):
    """One phrase of the prompt with its label, see PhraseMatch. Label Studio does not read it."""

    phrase: str
    searched: list[str]
    label: str | None
    step: str


@final
class Prediction(TypedDict):
    """The answer for a task: `score` is the mean of its boxes' scores, 0 without any.

    matches: how the phrases of the prompt found their labels, where there was a prompt.
    """

    result: list[Region | TextRegion]
    score: float
    model_version: str
    matches: NotRequired[list[Match]]


@final
class TaskError(TypedDict):
    """The answer for a task that failed. Without `result`, Label Studio asks for it again later."""

    error: str
    error_type: str
    request_id: str


def count_boxes(prediction: Prediction) -> int:
    """Number of boxes in a prediction; a `rectangle` and its `labels` are one, a prompt none."""
    return sum(region["type"] in _BOX_TYPES for region in prediction["result"])
