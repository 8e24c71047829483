"""The wire models of the answers to Label Studio."""

from __future__ import annotations

from typing import Literal, NotRequired, final

from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

_BOX_TYPES = ("rectanglelabels", "rectangle")  # without "labels", which repeats its rectangle's box


class RegionValue(TypedDict):
    """A box in percent of the upright picture; rotation in degrees.

    The key of the labels depends on the type of the control tag.
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
    """A box: one entry, or two entries with one id (a `rectangle` and its `labels`).

    A box without a label has no `rectanglelabels` or `labels`. Its `meta` notes the phrase that was
    looked for, and Label Studio's page shows it grey.
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
    """A text that belongs to the whole picture: the echoed prompt."""

    id: str
    from_name: str
    to_name: str
    type: Literal["textarea"]
    value: dict[str, list[str]]


class Match(TypedDict):
    """One phrase of the prompt with its label, as in `PhraseMatch`. Label Studio ignores it."""

    phrase: str
    searched: list[str]
    label: str | None
    step: str


@final
class Prediction(TypedDict):
    """The answer for a task.

    Attributes:
        result: The echoed prompt, if any, and the regions.
        score: The mean of the boxes' scores; 0 without boxes.
        model_version: The checkpoint and the settings that the prediction depends on.
        matches: The phrases of the prompt with their labels, if there is a prompt.
    """

    result: list[Region | TextRegion]
    score: float
    model_version: str
    matches: NotRequired[list[Match]]


@final
class TaskError(TypedDict):
    """The answer for a task that failed. Without a `result`, Label Studio retries it later."""

    error: str
    error_type: str
    request_id: str


def count_boxes(prediction: Prediction) -> int:
    """Return the number of boxes. A `rectangle` and its `labels` count as one."""
    return sum(region["type"] in _BOX_TYPES for region in prediction["result"])
