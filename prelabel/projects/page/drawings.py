"""The worst pictures, small, with the boxes of people and of the model as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from PIL import Image

from prelabel.errors import PrelabelError
from prelabel.evaluation.findings import short
from prelabel.evaluation.report import Wrong
from prelabel.evaluation.samples import NO_LABEL, Boxes
from prelabel.images.decode import decode_reduced

Fetch = Callable[[str, int | None], bytes]  # the picture at a task's address, for the task's id

_LONGEST_SIDE: Final = 640  # pixels of an embedded picture
_WIDTH: Final = 480  # of every drawing, so that the texts of all have one size
_QUALITY: Final = 80  # of JPEG
_MAX_PIXELS: Final = 200_000_000
_FETCHES: Final = 4  # at a time
_NAME: Final = 28  # characters of a label


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box in the coordinates of the drawing.

    Attributes:
        kind: found, wrong (false, or with a wrong label) or missed.
        source: people or model.
        text: Its label, and the score if the model has one.
    """

    x: float
    y: float
    width: float
    height: float
    kind: Literal["found", "wrong", "missed"]
    source: Literal["people", "model"]
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture with its boxes.

    Attributes:
        title: The task, and the picture's number in a list.
        address: The task's page in Label Studio.
        faults: Numbers of its wrong boxes, in words.
        image: The small picture as a data: URL; empty if it could not be fetched.
        width: Width of the drawing.
        height: Height of the drawing.
        boxes: The boxes, those of the model last.
        problem: Why there is no picture; empty with one.
    """

    title: str
    address: str
    faults: str
    image: str
    width: int
    height: int
    boxes: tuple[DrawnBox, ...]
    problem: str


def draw_all(
    worst: Sequence[Wrong], fetch: Fetch, address_of: Callable[[int], str]
) -> list[Drawing]:
    """Draw pictures; those that cannot be fetched have a sentence instead."""
    with ThreadPoolExecutor(_FETCHES) as executor:
        return list(executor.map(lambda wrong: _draw(wrong, fetch, address_of), worst))


def _draw(wrong: Wrong, fetch: Fetch, address_of: Callable[[int], str]) -> Drawing:
    sample = wrong.sample
    index = sample.item_index
    title = f"Task {sample.task}" + ("" if index is None else f", picture {index + 1}")
    image, problem, wh = "", "", sample.image_wh
    try:
        image, wh = _small(fetch(sample.uri, sample.task), sample.image_wh)
    except PrelabelError as error:
        problem = str(error)
    scale = _WIDTH / max(wh[0], 1)
    return Drawing(
        title=title,
        address=address_of(sample.task),
        faults=_faults(wrong),
        image=image,
        width=_WIDTH,
        height=max(1, round(wh[1] * scale)),
        boxes=_boxes(wrong, scale),
        problem=problem,
    )


def _small(encoded: bytes, image_wh: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """Return the picture as a data: URL, and the size that its boxes refer to."""

    def scale_of(wh: tuple[int, int]) -> int:
        return next((s for s in (8, 4, 2) if max(wh) >= s * _LONGEST_SIDE), 1)

    decoded = decode_reduced(encoded, max_pixels=_MAX_PIXELS, scale_of=scale_of)
    left, top = (-edge // decoded.scale for edge in decoded.origin_xy)
    picture = Image.fromarray(decoded.pixels)
    width, height = (-(-side // decoded.scale) for side in decoded.wh)
    picture = picture.crop((left, top, left + width, top + height))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return url, image_wh if all(image_wh) else decoded.wh


def _boxes(wrong: Wrong, scale: float) -> tuple[DrawnBox, ...]:
    sample, matches = wrong.sample, wrong.matches
    missed = {*matches.missed, *(t for _, t in matches.mislabelled)}
    false = {*matches.false, *(p for p, _ in matches.mislabelled)}
    return (
        *(
            _box(sample.truth, row, scale, "missed" if row in missed else "found", "people")
            for row in range(len(sample.truth))
        ),
        *(
            _box(sample.predicted, row, scale, "wrong" if row in false else "found", "model")
            for row in range(len(sample.predicted))
        ),
    )


def _box(
    boxes: Boxes,
    row: int,
    scale: float,
    kind: Literal["found", "wrong", "missed"],
    source: Literal["people", "model"],
) -> DrawnBox:
    left, top, right, bottom = (boxes.xyxy[row] * scale).round(1).tolist()
    label = boxes.labels[row]
    text = short(label, _NAME) if label != NO_LABEL else "no label"
    if source == "model":
        text += f" {boxes.scores[row]:.2f}"
    return DrawnBox(left, top, right - left, bottom - top, kind, source, text)


def _faults(wrong: Wrong) -> str:
    matches = wrong.matches
    counts = (
        (len(matches.missed), "missed"),
        (len(matches.false), "false"),
        (len(matches.mislabelled), "under another label"),
    )
    return ", ".join(f"{count} {word}" for count, word in counts if count)
