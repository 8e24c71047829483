"""Detections -> regions -> one prediction.

In: a look plan and its detections in pixels. Out: regions in percent with labels of the labeling
config, and the prediction of a task, which has the regions of all its pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from prelabel.boxes import clip_xyxy, px_to_pct
from prelabel.detection.suppression import Suppression, chosen_rows
from prelabel.labelstudio.mask_regions import DrawnMask, MaskPen, mask_entries
from prelabel.labelstudio.regions import PCT_DECIMALS, RegionFrame, new_id
from prelabel.labelstudio.responses import (
    Match,
    Prediction,
    Region,
    TaskError,
    TextRegion,
)
from prelabel.types import (
    Detections,
    LookPlan,
    PhraseMatch,
    PromptEcho,
    Target,
)


def to_regions(
    look: LookPlan, detections: Detections, suppression: Suppression, pen: MaskPen | None = None
) -> list[Region]:
    """Return the regions of one picture, best first; the masks of a box follow it.

    Args:
        look: The plan of the picture.
        detections: The boxes that were found in it, or the objects that were segmented.
        suppression: Limits on boxes.
        pen: Draws the masks, and remembers what it had to leave out; without it there are none.
    """
    if look.objects:
        targets = [look.objects[i].target for i in detections.phrase_index]
        notes = [""] * len(targets)
    else:
        detections = detections.take(chosen_rows(look, detections, suppression))
        targets = [target for i in detections.phrase_index if (target := look.targets[i])]
        notes = [look.phrases[i] for i in detections.phrase_index]
    drawn: Sequence[DrawnMask | None] = [None] * len(targets)
    boxes = clip_xyxy(detections.boxes_xyxy, detections.image_wh).astype(np.float64)
    if pen is not None and detections.masks is not None:
        drawn = pen.draw(detections.masks, targets, detections.scores, detections.image_wh)
        if look.objects:  # an annotator pointed at them: the box follows from the mask
            boxes = np.array([mask.bounds if mask else (0,) * 4 for mask in drawn], np.float64)
            boxes = boxes.reshape(-1, 4)
    pct = px_to_pct(boxes, detections.image_wh).round(PCT_DECIMALS)
    return [
        region
        for box, score, target, note, mask in zip(
            pct.tolist(), detections.scores.tolist(), targets, notes, drawn, strict=True
        )
        if mask or not look.objects
        for region in _entries(
            box,
            target,
            note,
            RegionFrame(target.to_name, detections.image_wh, look.item_index, score),
            mask,
        )
    ]


def to_prediction(
    regions: Sequence[Region],
    model_version: str,
    echo: PromptEcho | None = None,
    matches: Sequence[PhraseMatch] = (),
    notes: Sequence[str] = (),
) -> Prediction:
    """Return the prediction of a task.

    Args:
        regions: The regions of all its pictures.
        model_version: The version that Label Studio stores with the prediction.
        echo: The prompt, if the prediction shows it.
        matches: The labels of the prompt's phrases.
        notes: Sentences about parts that were left out of the prediction.
    """
    # "labels" repeats the score of its rectangle, and a mask the score of its box.
    scores = [
        region["score"]
        for region in regions
        if region["type"] != "labels" and "parentID" not in region
    ]
    texts = [_text_region(echo)] if echo else []
    prediction = Prediction(
        result=[*texts, *regions],
        score=sum(scores) / len(scores) if scores else 0.0,
        model_version=model_version,
    )
    if matches:
        prediction["matches"] = [
            Match(phrase=m.phrase, searched=list(m.searched), label=m.label, step=m.step)
            for m in matches
        ]
    if notes:
        prediction["notes"] = list(notes)
    return prediction


def to_task_error(error: Exception, request_id: str) -> TaskError:
    """Return the answer for a task that failed."""
    return TaskError(error=str(error), error_type=type(error).__name__, request_id=request_id)


def _entries(
    box_pct: list[float],
    target: Target,
    phrase: str,
    frame: RegionFrame,
    mask: DrawnMask | None,
) -> Iterator[Region]:
    """Yield the entries of a box, if its target draws boxes, and of its masks."""
    parent: str | None = None
    if target.draws_box:
        box = frame.box_entries(
            box_pct, target.from_name, target.rectangle_name, target.label, phrase
        )
        parent = box[0]["id"]
        yield from box
    if mask is not None:
        yield from mask_entries(mask, frame, parent)


def _text_region(echo: PromptEcho) -> TextRegion:
    return TextRegion(
        id=new_id(),
        from_name=echo.from_name,
        to_name=echo.to_name,
        type="textarea",
        value={"text": [echo.prompt]},
    )
