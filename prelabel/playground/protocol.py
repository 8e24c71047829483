"""The wire models of the playground's routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

MAX_MASKS = 100  # of one request
_MAX_BOXES = 10_000
_MAX_LABELS = 1_000
_MAX_RINGS = 200
_MAX_POINTS = 1_000
_MAX_CHARS = 10_000
_MAX_PIXELS = 1_000_000  # of a side

Unit = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=_MAX_PIXELS)]
Text = Annotated[str, Field(max_length=_MAX_CHARS)]
BoxXyxy = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
RingXy = Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(max_length=_MAX_POINTS)]
_PictureText = Annotated[
    str,
    Field(description="The picture as `data:image/...;base64,...`, or `example:NAME`."),
]


def _with_area(box: BoxXyxy) -> BoxXyxy:
    left, top, right, bottom = box
    if not (0 <= left < right <= _MAX_PIXELS and 0 <= top < bottom <= _MAX_PIXELS):
        raise ValueError("not left < right and top < bottom in pixels of the picture")
    return box


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptedBody(_Body):
    """A prompt, or labels, or both."""

    prompt: str = Field("", description='The prompt, as in "cat . Vehicle: sedan . -dog".')
    labels: Annotated[list[Text], Field(max_length=_MAX_LABELS)] | None = Field(
        None, description="The labels of a project; null for those that the prompt names."
    )


class CandidatesRequest(PromptedBody):
    """Body of POST /playground/candidates."""

    image: _PictureText


class MasksRequest(_Body):
    """Body of POST /playground/masks."""

    image: _PictureText
    image_wh: tuple[Side, Side] = Field(
        description="Width and height of the upright picture, as POST /playground/candidates said."
    )
    boxes_xyxy: list[Annotated[BoxXyxy, AfterValidator(_with_area)]] = Field(
        min_length=1,
        max_length=MAX_MASKS,
        description="Left, top, right and bottom in pixels of the upright picture.",
    )


class ChosenThresholds(_Body):
    """The positions of the page's sliders; null for the service's setting."""

    box_threshold: Unit | None = None
    text_threshold: Unit | None = None
    nms_iou_threshold: Unit | None = None
    nms_class_agnostic: bool | None = None


class ShownBox(_Body):
    """A box that the page shows.

    xyxy: pixels of the upright picture. label: null for a box without a label. phrase: the phrase
    that was searched for. polygons: outlines of the mask, in pixels.
    """

    xyxy: BoxXyxy
    label: Text | None = None
    score: Unit
    phrase: Text = ""
    polygons: Annotated[list[RingXy], Field(max_length=_MAX_RINGS)] = []


class ExportRequest(PromptedBody):
    """Body of POST /playground/export."""

    format: Literal["config", "label_studio", "coco", "predict", "curl"] = Field(
        description="`config`: the labeling config; `label_studio`: a task with its prediction; "
        "`coco`: COCO instances; `predict`: the body of the POST /predict that gives these boxes, "
        "with IMAGE in the place of the picture; `curl`: a command that sends it."
    )
    image_name: Text = Field("picture.jpg", description="Name of the picture's file.")
    thresholds: ChosenThresholds = ChosenThresholds()
    masks: bool = Field(False, description="Add a control for masks to the labeling config.")
    image_wh: tuple[Side, Side] = Field(
        (1, 1), description="Width and height of the upright picture; for label_studio and coco."
    )
    boxes: list[ShownBox] = Field(
        [], max_length=_MAX_BOXES, description="The boxes shown; for label_studio and coco."
    )
    service_url: Annotated[Text, Field(pattern=r"^https?://[^\s\x00-\x1f]+$")] = Field(
        "http://localhost:9090/", description="Address of the service; for curl."
    )
    example: Text | None = Field(
        None, description="Name of the example that is shown; for curl, which fetches it."
    )


class PhraseAnswer(TypedDict):
    """One phrase that was searched for. Boxes of a phrase that is dropped are not shown."""

    phrase: str
    label: str | None
    dropped: bool


class SecondsAnswer(TypedDict):
    """Seconds of a request, and of them those of the detector, decoding and queue included."""

    total: float
    model: float


class CandidatesAnswer(TypedDict):
    """Every box over the floor, best first, before thresholds and suppression.

    Boxes are in pixels of the upright picture; `text_scores` are compared with the text threshold.
    `view_index` numbers the views of a tiled picture: their boxes are not merged. Boxes with scores
    below `floor` are missing.
    """

    image_wh: tuple[int, int]
    phrases: list[PhraseAnswer]
    labels: list[str]
    boxes_xyxy: list[list[float]]
    scores: list[float]
    text_scores: list[float]
    phrase_index: list[int]
    view_index: list[int] | None
    floor: float
    notes: list[str]
    model_version: str
    seconds: SecondsAnswer


class MasksAnswer(TypedDict):
    """The outlines of each box's mask, largest first, in pixels; and the masks' qualities, 0..1."""

    polygons: list[list[list[tuple[float, float]]]]
    qualities: list[float]


class ModelAnswer(TypedDict):
    """The model that answers."""

    name: str
    title: str
    limits: str
    source: str


class SegmenterAnswer(TypedDict):
    """The model that draws masks."""

    name: str
    title: str


class ExampleAnswer(TypedDict):
    """A demo picture; `thumbnail` is an address relative to the page."""

    name: str
    title: str
    prompt: str
    labels: list[str]
    width: int
    height: int
    file: str
    thumbnail: str


class DefaultsAnswer(TypedDict):
    """The service's settings, `detection.*`."""

    box_threshold: float
    text_threshold: float
    nms_iou_threshold: float
    nms_class_agnostic: bool
    max_boxes: int
    min_box_px: float


class FactsAnswer(TypedDict):
    """The service as the page presents it, and the limits that the page keeps."""

    model: ModelAnswer
    model_version: str
    segmenter: SegmenterAnswer | None
    service_version: str
    knows: list[str]
    examples: list[ExampleAnswer]
    defaults: DefaultsAnswer
    floor: float
    max_image_bytes: int
    max_image_pixels: int
    max_prompt_chars: int
    max_masks: int
