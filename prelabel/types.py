"""The frozen values that cross borders between modules, actors and machines.

Boxes are `xyxy`, float32, shape [N, 4], in pixels of the upright original picture (EXIF rotation
applied), origin at its top left corner, unless a name says otherwise (`_norm`: divided by the
picture's width and height; `_pct`: percent of them).

They have no slots: those with slots are pickled in Python, field by field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
ImageRGB = NDArray[np.uint8]  # [H, W, 3], upright


@dataclass(frozen=True)
class Thresholds:
    """Which boxes are kept; both between 0 and 1, and 0 keeps everything.

    box: lowest score of a box, the greatest token probability in its phrase's span.
    text: lowest mean token probability over the whole span, so that "red star" is not
        satisfied by "red" alone.
    """

    box: float
    text: float


@dataclass(frozen=True)
class PromptRequest:
    """What somebody asked for: in a context, a draft, a remembered annotation. None: nothing."""

    prompt: str | None = None
    box_threshold: float | None = None
    text_threshold: float | None = None

    def or_else(self, other: PromptRequest) -> PromptRequest:
        """This, with what it leaves open taken from another. 0 is a value."""
        return PromptRequest(
            other.prompt if self.prompt is None else self.prompt,
            other.box_threshold if self.box_threshold is None else self.box_threshold,
            other.text_threshold if self.text_threshold is None else self.text_threshold,
        )


@dataclass(frozen=True)
class Target:
    """Where a phrase's boxes go: a label of a control tag on an object tag.

    label: None for boxes that get none; rectangle_name: where the boxes are another tag's than the
    labels.
    """

    from_name: str
    to_name: str
    label: str | None
    min_score: float
    rectangle_name: str | None = None


@dataclass(frozen=True)
class PromptEcho:
    """A prompt, and the text area in which a prediction shows it."""

    from_name: str
    to_name: str
    prompt: str


@dataclass(frozen=True)
class PhraseMatch:
    """What became of one phrase of a prompt.

    phrase: as it was typed; searched: what the model is asked for; label: of its boxes, None for
    none; step: how the label was found, or why there is none; see `prelabel.phrases.matching.Step`.
    """

    phrase: str
    searched: tuple[str, ...]
    label: str | None
    step: str


@dataclass(frozen=True)
class PresentRegion:
    """A box that the annotation has. label: None for one without.

    box_pct: left, top, right and bottom in percent of the upright picture.
    """

    to_name: str
    item_index: int | None
    label: str | None
    box_pct: tuple[float, float, float, float]


@dataclass(frozen=True)
class LookPlan:
    """What to look for on one picture. targets[i] belongs to phrases[i]; None: they are left out.

    item_index: the picture's place in a list of pictures, None for a single one; present: boxes
    that its annotation has, and that are not suggested again.
    """

    uri: str
    item_index: int | None
    phrases: tuple[str, ...]
    targets: tuple[Target | None, ...]
    thresholds: Thresholds
    present: tuple[PresentRegion, ...] = ()


@dataclass(frozen=True)
class TaskPlan:
    """What to look for on all pictures of a task.

    echo: the prompt, where it is to be shown; matches: what became of its phrases; unreadable: the
    labels and phrases that the model has no word of, which are left out.
    """

    looks: tuple[LookPlan, ...]
    echo: PromptEcho | None = None
    matches: tuple[PhraseMatch, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectPrompts:
    """What is kept for a project. submitted: what its newest submitted annotation asked for;
    project: what stands in the extra parameters of its model.
    """

    submitted: PromptRequest = PromptRequest()
    project: PromptRequest = PromptRequest()


@dataclass(frozen=True)
class DetectionQuery:
    """One picture to look at and the phrases to look for. All a detector needs to know.

    image: encoded bytes (JPEG, PNG, ...) as they were fetched.
    phrases: what to look for, in plain words, without duplicates.
    urgent: somebody is waiting for it in front of the picture. request_id: for the log.
    traceparent: the span that it belongs to, where there are traces.
    """

    image: bytes
    phrases: tuple[str, ...]
    thresholds: Thresholds
    urgent: bool = False


@dataclass(frozen=True)
class RawDetections:
    """What an engine answers for one caption, before any threshold. Q queries, P phrases.

    boxes_xyxy_norm: [Q, 4] in 0..1 of the picture (may reach slightly beyond it).
    phrase_max, phrase_mean: [Q, P] greatest and mean token probability over each phrase's span.
    first_phrase: index in the query's phrases of column 0 (captions are chunks of the phrases).
    """

    boxes_xyxy_norm: Floats
    phrase_max: Floats
    phrase_mean: Floats
    first_phrase: int


@dataclass(frozen=True)
class Detections:
    """Boxes over the thresholds, of all chunks of a query, best score first; not yet suppressed.

    boxes_xyxy: [N, 4] pixels; scores: [N]; phrase_index: [N] index into the query's phrases;
    image_wh: width and height in pixels of the upright picture.
    """

    boxes_xyxy: Floats
    scores: Floats
    phrase_index: Ints
    image_wh: tuple[int, int]
