"""The wire models of the answers to Label Studio."""

from __future__ import annotations

from typing import Literal, NotRequired, cast, final

from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from prelabel.labelstudio.shapes import BOX_TYPES

_RLE_JSON_BYTES = 4  # "255," for each byte of a run-length encoding
_POINT_JSON_BYTES = 20  # "[12.3456,12.3456],"
_VERTEX_JSON_BYTES = 110  # a vertex also has its own id and that of the vertex before


RegionType = Literal[
    "rectanglelabels",
    "rectangle",
    "brushlabels",
    "brush",
    "polygonlabels",
    "polygon",
    "bitmasklabels",
    "bitmask",
    "vectorlabels",
    "vector",
    "labels",
]


class Vertex(TypedDict):
    """A corner of a vector in percent of the upright picture, linked to the one before."""

    x: float
    y: float
    id: str
    isBezier: bool
    prevPointId: str | None


class RegionValue(TypedDict, total=False):
    """The form of a region, in percent of the upright picture, and its label.

    A box has `x`, `y`, `width`, `height` and `rotation` (degrees); a brush `format` and `rle`, the
    bytes of thi.ng's rle-pack; a polygon `points` [x, y]; a bitmask `imageDataURL`, a PNG of the
    picture's size, black on transparent; a vector `vertices`. Polygons and vectors are `closed`.
    The key of the labels depends on the type of the control tag.
    """

    x: float
    y: float
    width: float
    height: float
    rotation: int
    format: Literal["rle"]
    rle: list[int]
    points: list[list[float]]
    imageDataURL: str
    vertices: list[Vertex]
    closed: bool
    rectanglelabels: list[str]
    brushlabels: list[str]
    polygonlabels: list[str]
    bitmasklabels: list[str]
    vectorlabels: list[str]
    labels: list[str]


class RegionMeta(TypedDict):
    """Notes on a region. Label Studio's page shows `text` with it.

    mask_quality: the mask's IoU with the object as the model estimates it.
    """

    text: NotRequired[list[str]]
    mask_quality: NotRequired[float]


class Region(TypedDict):
    """A box or a mask: one entry, or two with one id (such as a `rectangle` and its `labels`).

    A box without a label has no `rectanglelabels` or `labels`. Its `meta` notes the phrase that was
    looked for, and Label Studio's page shows it grey. The masks of a box have its id as `parentID`.
    """

    id: str
    from_name: str
    to_name: str
    type: RegionType
    origin: NotRequired[str]
    original_width: int
    original_height: int
    image_rotation: int
    item_index: NotRequired[int]
    score: float
    value: RegionValue
    meta: NotRequired[RegionMeta]
    parentID: NotRequired[str]


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
        score: The mean of the boxes' scores, 0 without boxes; or how certain the prediction is
            (`review.prediction_score`).
        model_version: The checkpoint and the settings that the prediction depends on.
        matches: The phrases of the prompt with their labels, if there is a prompt.
        notes: Sentences about parts that were left out. Label Studio ignores them.
        picture_hashes: Perceptual hash of each picture, 16 hexadecimal digits; not for a request of
            one task. Label Studio ignores them.
    """

    result: list[Region | TextRegion]
    score: float
    model_version: str
    matches: NotRequired[list[Match]]
    notes: NotRequired[list[str]]
    picture_hashes: NotRequired[list[str]]


@final
class TaskError(TypedDict):
    """The answer for a task that failed. Without a `result`, Label Studio retries it later."""

    error: str
    error_type: str
    request_id: str


def count_masks(prediction: Prediction) -> int:
    """Return the number of masks. A mask with several shapes or outlines counts as often."""
    return sum(
        region["type"] not in ("textarea", "labels")
        and "mask_quality" in cast("Region", region).get("meta", {})
        for region in prediction["result"]
    )


def picture_hashes(prediction: Prediction) -> list[int]:
    """Return the perceptual hash of each picture, 64 bits; none if the prediction has none."""
    return [int(value, 16) for value in prediction.get("picture_hashes", ())]


def mask_bytes(prediction: Prediction) -> int:
    """Return about the bytes that the masks of a prediction take as JSON."""
    return sum(value_bytes(cast("RegionValue", each["value"])) for each in prediction["result"])


def value_bytes(value: RegionValue) -> int:
    """Return about the bytes that the mask of a region takes as JSON; 0 for a box."""
    return (
        _RLE_JSON_BYTES * len(value.get("rle", ()))
        + _POINT_JSON_BYTES * len(value.get("points", ()))
        + _VERTEX_JSON_BYTES * len(value.get("vertices", ()))
        + len(value.get("imageDataURL", ""))
    )


def count_boxes(prediction: Prediction) -> int:
    """Return the number of boxes. A `rectangle` and its `labels` count as one."""
    return sum(region["type"] in BOX_TYPES for region in prediction["result"])
