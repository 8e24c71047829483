"""The frozen values that cross borders between modules, actors and machines.

Boxes are `xyxy`, float32, shape [N, 4], in pixels of the upright original picture (EXIF rotation
applied) with the origin at its top left corner, unless a name says otherwise (`_norm`: divided by
the picture's width and height; `_pct`: percent of them).

The classes have no slots, because Python pickles classes with slots field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
ImageRGB = NDArray[np.uint8]  # [H, W, 3], upright
Masks = NDArray[np.bool_]  # [N, H, W], or [H, W] for one


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of boxes, both between 0 and 1; 0 keeps every box.

    Attributes:
        box: Lowest score of a box. The score is the greatest token probability in the span of the
            box's phrase.
        text: Lowest mean token probability over the whole span, so that "red" alone does not
            satisfy "red star".
    """

    box: float
    text: float


@dataclass(frozen=True)
class PromptRequest:
    """A prompt and thresholds from one source: a context, a draft, a remembered annotation.

    None stands for a value that the source leaves open. 0 and "" are values.
    """

    prompt: str | None = None
    box_threshold: float | None = None
    text_threshold: float | None = None

    def or_else(self, other: PromptRequest) -> PromptRequest:
        """Return this request with open values taken from `other`."""
        return PromptRequest(
            other.prompt if self.prompt is None else self.prompt,
            other.box_threshold if self.box_threshold is None else self.box_threshold,
            other.text_threshold if self.text_threshold is None else self.text_threshold,
        )


MaskShape = Literal["brush", "polygon", "bitmask", "vector"]


@dataclass(frozen=True)
class MaskTarget:
    """The label and the control tag of a mask.

    Attributes:
        shape: The form of the mask in the annotation.
        from_name: Name of the control tag that has the label.
        label: Value of the label in that tag, None for masks without a label.
        min_score: Lowest score of a box whose mask is drawn.
        shape_name: Name of the control tag that draws the mask, if it differs from the label's.
    """

    shape: MaskShape
    from_name: str
    label: str | None
    min_score: float
    shape_name: str | None = None


@dataclass(frozen=True)
class Target:
    """The label and the control tags of a phrase's regions: a box, masks, or both.

    Attributes:
        from_name: Name of the control tag that has the label.
        to_name: Name of the object tag.
        label: Value of the label, None for boxes without a label.
        min_score: Lowest score of the label's boxes.
        rectangle_name: Name of the control tag of the rectangle, if it differs from the label's.
        draws_box: False if no control tag draws boxes with this label.
        masks: The masks that are drawn of each object, at most one of each shape.
    """

    from_name: str
    to_name: str
    label: str | None
    min_score: float
    rectangle_name: str | None = None
    draws_box: bool = True
    masks: tuple[MaskTarget, ...] = ()


@dataclass(frozen=True)
class MaskPrompt:
    """One object to segment: a box, points, or both.

    Coordinates are in pixels of the picture, or in percent of it where a name says so.

    Attributes:
        box_xyxy: The box around the object, None without one.
        points_xy: Points on the object and beside it.
        points_inside: `points_inside[i]` is True if `points_xy[i]` is on the object.
        clip_xyxy: The mask ends at this box; None for the whole picture.
    """

    box_xyxy: tuple[float, float, float, float] | None = None
    points_xy: tuple[tuple[float, float], ...] = ()
    points_inside: tuple[bool, ...] = ()
    clip_xyxy: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class MaskLogits:
    """The mask of one object as low-resolution logits, cropped.

    A segmenter sees a part of the picture (`view_xyxy`), and answers on a grid of cells over it.
    The logit at the picture's pixel (x, y) is the bilinear interpolation between the centres of
    cells, at column `(x - left + 0.5) * cells_wh[0] / view width - 0.5` of the grid, and likewise
    for rows; beyond the outermost centres of the grid it is constant. Cells outside of the crop are
    negative.

    Attributes:
        logits: float16 [h, w]; the object is where the interpolated logit is positive.
        origin_xy: Column and row of the crop's first cell in the grid.
        cells_wh: Number of columns and rows over the view; may be fractional, because a model pads
            its input.
        view_xyxy: The part of the picture, in whole pixels.
        clip_xyxy: Pixels whose centres lie outside of this box do not belong to the mask; None for
            no limit.
        quality: IoU with the object as the model estimates it, 0..1.
    """

    logits: Floats
    origin_xy: tuple[int, int]
    cells_wh: tuple[float, float]
    view_xyxy: tuple[int, int, int, int]
    clip_xyxy: tuple[float, float, float, float] | None
    quality: float


@dataclass(frozen=True)
class PromptEcho:
    """A prompt that a prediction shows in the text area `from_name`."""

    from_name: str
    to_name: str
    prompt: str


@dataclass(frozen=True)
class PhraseMatch:
    """The result of matching one phrase of a prompt to the labels.

    Attributes:
        phrase: The phrase as it was typed.
        searched: The words that the model searches for.
        label: Label of the boxes, None for boxes without a label.
        step: The rule by which the label was found, or the reason that there is none; a value of
            `prelabel.phrases.matching.Step`.
    """

    phrase: str
    searched: tuple[str, ...]
    label: str | None
    step: str


@dataclass(frozen=True)
class PresentRegion:
    """A box that the annotation already has.

    Attributes:
        to_name: Name of the object tag.
        item_index: Index of the picture in a list of pictures, None for a single picture.
        label: Label of the box, None without one.
        box_pct: Left, top, right and bottom in percent of the upright picture.
    """

    to_name: str
    item_index: int | None
    label: str | None
    box_pct: tuple[float, float, float, float]


@dataclass(frozen=True)
class PromptedObject:
    """An object that an annotator clicked on or drew a box around, to be segmented.

    Attributes:
        prompt_pct: The clicks or the box, in percent of the upright picture.
        target: The label and the control tags of its regions.
    """

    prompt_pct: MaskPrompt
    target: Target


@dataclass(frozen=True)
class LookPlan:
    """One picture with the phrases to search for, or with the objects to segment.

    Attributes:
        uri: Address of the picture, or a data: URL.
        item_index: Index of the picture in a list of pictures, None for a single picture.
        phrases: The phrases in plain words.
        targets: `targets[i]` belongs to `phrases[i]`; None if boxes of the phrase are dropped.
        thresholds: Thresholds of the boxes.
        present: Boxes that the annotation already has; they are not suggested again.
        objects: Objects that an annotator pointed at; nothing is searched for then.
    """

    uri: str
    item_index: int | None
    phrases: tuple[str, ...]
    targets: tuple[Target | None, ...]
    thresholds: Thresholds
    present: tuple[PresentRegion, ...] = ()
    objects: tuple[PromptedObject, ...] = ()

    @property
    def wants_masks(self) -> bool:
        """True if masks of boxes are to be drawn."""
        return any(target is not None and target.masks for target in self.targets)


@dataclass(frozen=True)
class TaskPlan:
    """All pictures of a task with the phrases to search for.

    Attributes:
        looks: One look for each picture that is searched.
        echo: The prompt, if the prediction shows it.
        matches: The matching of the prompt's phrases.
        unreadable: Labels and phrases that were left out because the model cannot read them.
        notes: Sentences about parts of the config that the plan leaves out.
    """

    looks: tuple[LookPlan, ...]
    echo: PromptEcho | None = None
    matches: tuple[PhraseMatch, ...] = ()
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectPrompts:
    """The stored prompts of a project.

    Attributes:
        submitted: Prompt and thresholds of the newest submitted annotation.
        project: Prompt and thresholds in the extra parameters of the project's model.
    """

    submitted: PromptRequest = PromptRequest()
    project: PromptRequest = PromptRequest()


@dataclass(frozen=True)
class DetectionQuery:
    """One picture and the phrases to search for: the whole input of a detector.

    Attributes:
        image: Encoded bytes (JPEG, PNG, ...).
        phrases: The phrases in plain words, without duplicates.
        thresholds: Thresholds of the boxes.
        urgent: True if an annotator waits for the answer.
        look: The plan of the picture if masks are wanted. Its boxes are then suppressed before
            they are segmented, so that a dropped box costs no mask.
        candidates: True for the boxes of all views of the picture as they are: neither merged nor
            with evidence. Other thresholds can then be applied to them later.
    """

    image: bytes
    phrases: tuple[str, ...]
    thresholds: Thresholds
    urgent: bool = False
    look: LookPlan | None = None
    candidates: bool = False


@dataclass(frozen=True)
class SegmentationQuery:
    """One picture and the objects in it to segment.

    Attributes:
        image: Encoded bytes (JPEG, PNG, ...).
        prompts_pct: The prompts, in percent of the upright picture.
        urgent: True if an annotator waits for the answer.
    """

    image: bytes
    prompts_pct: tuple[MaskPrompt, ...]
    urgent: bool = False


@dataclass(frozen=True)
class RawDetections:
    """The output of an engine for one caption, before any threshold. Q queries, P phrases.

    Attributes:
        boxes_xyxy_norm: [Q, 4] in 0..1 of the picture; may reach slightly beyond it.
        phrase_max: [Q, P] greatest token probability in the span of each phrase.
        phrase_mean: [Q, P] mean token probability over the span of each phrase.
        first_phrase: Index in the query's phrases of column 0, because a caption is a chunk of
            the phrases.
    """

    boxes_xyxy_norm: Floats
    phrase_max: Floats
    phrase_mean: Floats
    first_phrase: int


@dataclass(frozen=True)
class Detections:
    """The boxes of a query over its thresholds, best score first.

    They are not yet suppressed unless masks were wanted. For objects that an annotator pointed at,
    the boxes are those of the prompts (empty for clicks), the scores the qualities of the masks,
    and `phrase_index` counts the objects.

    Attributes:
        boxes_xyxy: [N, 4] pixels.
        scores: [N].
        phrase_index: [N] index into the query's phrases.
        image_wh: Width and height of the upright picture in pixels.
        masks: The mask of each box, None for a box without one; None without any masks.
        evidence: More of what the model saw, if the prediction's score says how doubtful it is.
        picture_hash: Perceptual hash of a bulk picture, 64 bits.
        text_scores: [N] mean token probability over the box's phrase; None for objects that an
            annotator pointed at.
        view_index: [N] number of the view that shows the box, for candidates of a tiled picture.
    """

    boxes_xyxy: Floats
    scores: Floats
    phrase_index: Ints
    image_wh: tuple[int, int]
    masks: tuple[MaskLogits | None, ...] | None = None
    evidence: ReviewEvidence | None = None
    picture_hash: int | None = None
    text_scores: Floats | None = None
    view_index: Ints | None = None

    def take(self, rows: Ints) -> Detections:
        """Return some of the boxes, with their masks."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            phrase_index=self.phrase_index[rows],
            masks=None if self.masks is None else tuple(self.masks[row] for row in rows),
            text_scores=None if self.text_scores is None else self.text_scores[rows],
            view_index=None if self.view_index is None else self.view_index[rows],
        )


@dataclass(frozen=True)
class ReviewEvidence:
    """Boxes by which the expected number of corrections is estimated, not suppressed.

    Attributes:
        candidates: The boxes over a third of the thresholds, those over the thresholds included.
        second_look: The same of the mirrored picture, mirrored back; None without a second look.
    """

    candidates: Detections
    second_look: Detections | None = None
