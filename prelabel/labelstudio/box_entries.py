"""The entries of an annotation or a prediction -> boxes, with the regions that are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainValidator, ValidationError

from prelabel.labelstudio.present_regions import BoundsReader
from prelabel.labelstudio.result_entries import (
    BoxPct,
    ResultEntry,
    box_pct,
    label_of,
)
from prelabel.labelstudio.shapes import BOX_TYPES, DRAWING_TAGS, LABEL_TAGS

# Regions of other shapes, by the types of their entries.
_SHAPES: Final[Mapping[str, str]] = {
    **{tag.lower(): shape for tag, shape in LABEL_TAGS.items() if shape not in (None, "rectangle")},
    **{tag.lower(): shape for tag, shape in DRAWING_TAGS.items() if shape != "rectangle"},
    "ellipselabels": "ellipse",
    "ellipse": "ellipse",
    "keypointlabels": "key point",
    "keypoint": "key point",
}
_MASKS: Final = ("brush", "polygon", "bitmask", "vector")


def _score_or_none(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None


class ScoredEntry(ResultEntry):
    """An entry of a prediction's result, with its score."""

    score: Annotated[float | None, BeforeValidator(_score_or_none)] = None


def valid_entries(value: object) -> tuple[ScoredEntry, ...]:
    """Return the entries that can be read; imported results may contain anything."""
    entries = []
    for item in value if isinstance(value, list) else []:
        with suppress(ValidationError):
            entries.append(ScoredEntry.model_validate(item))
    return tuple(entries)


ScoredEntries = Annotated[tuple[ScoredEntry, ...], PlainValidator(valid_entries)]


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A box of an annotation or a prediction.

    Attributes:
        to_name: Name of the Image tag.
        item_index: Index of the picture in a list of pictures, None for a single picture.
        id: Id of the region.
        label: Its first label; None without one.
        pct: Left, top, right and bottom of the upright box around it, in percent of the picture.
        score: The model's score; None for boxes of people.
        image_wh: Width and height of the picture in pixels; None if the entry lacks them.
    """

    to_name: str
    item_index: int | None
    id: str | None
    label: str | None
    pct: BoxPct
    score: float | None
    image_wh: tuple[int, int] | None


@dataclass(slots=True)
class BoxEntries:
    """Boxes, and the number of other regions by shape."""

    boxes: list[LabelledBox] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_boxes(entries: Sequence[ScoredEntry], *, masks: bool = False) -> BoxEntries:
    """Return the boxes of an annotation or a prediction.

    A region and its labels may be two entries with one id. A rotated box counts as the upright box
    around it. Regions of other shapes are counted; those that belong to a box (`parentID`) are not.

    Args:
        entries: The result.
        masks: Take the boxes around masks as boxes, for configs that draw masks only.
    """
    labels = {entry.id: label_of(entry) for entry in entries if entry.type == "labels"}
    box_ids = {entry.id for entry in entries if entry.type in BOX_TYPES}
    reader = BoundsReader()
    read = BoxEntries()
    for entry in entries:
        shape = _SHAPES.get(entry.type or "")
        if entry.type in BOX_TYPES:
            shape, pct = "rectangle", box_pct(entry)
        elif shape is None or (entry.parent_id is not None and entry.parent_id in box_ids):
            continue
        else:
            pct = reader.bounds_pct(entry) if masks and shape in _MASKS else None
        if pct is None:
            read.left_out[shape] += 1
            continue
        label = label_of(entry) or labels.get(entry.id)
        read.boxes.append(
            LabelledBox(
                entry.to_name or "",
                entry.item_index,
                entry.id,
                label,
                pct,
                entry.score,
                entry.original_wh,
            )
        )
    return read
