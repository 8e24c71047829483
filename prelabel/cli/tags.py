"""Tags of boxes: their text, their font, and places where they hide no other tag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rectangle = tuple[float, float, float, float]
Floats = npt.NDArray[np.float64]

_LEAST_TEXT_PX: Final = 8
_SHARE_OF_WIDTH: Final = 0.6  # of the picture; a longer text is cut
_USUAL_WIDTH_PX: Final = 300  # a narrower picture gives its tags all of its width
_STEPS: Final = 6  # places farther and farther from the box
_STEP_COST: Final = 0.002  # of a later place, in shares of the tag that it would hide
# Fonts with more scripts than Pillow's own, where the system has them.
_OTHER_FONTS: Final = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "Arial Unicode.ttf",
)
_NO_GLYPH: Final = "\U0010fffe"  # no font has it


@dataclass(frozen=True, slots=True)
class Tag:
    """A text with its size.

    Attributes:
        text: As it is drawn.
        font: Its font.
        padding_px: Space around the text.
        bearing_px: Offset of the text's ink from its origin.
        wh: Width and height with the padding, pixels.
    """

    text: str
    font: Font
    padding_px: int
    bearing_px: tuple[float, float]
    wh: tuple[float, float]


def make_tag(text: str, text_px: int, image_wh: tuple[int, int]) -> Tag | None:
    """Return a tag that fits the picture: smaller or cut if needed; None if none fits.

    The last word of the text, the score, stays.
    """
    longest = image_wh[0] if image_wh[0] < _USUAL_WIDTH_PX else _SHARE_OF_WIDTH * image_wh[0]
    for size_px in range(text_px, _LEAST_TEXT_PX - 1, -1):
        tag = _tag(text, size_px)
        if tag.wh[1] <= image_wh[1] and tag.wh[0] <= longest:
            return tag
        if size_px < 0.8 * text_px:  # small enough: cut the text
            break
    for size_px in range(max(round(0.8 * text_px), _LEAST_TEXT_PX), _LEAST_TEXT_PX - 1, -1):
        tag = _tag(text, size_px)
        if tag.wh[1] <= image_wh[1]:
            for shorter in _shorter(text):
                tag = _tag(shorter, size_px)
                if tag.wh[0] <= longest:
                    return tag
    return None


def _shorter(text: str) -> Iterator[str]:
    yield text
    label, _, score = text.rpartition(" ")
    for length in range(len(label) - 1, 0, -1):
        yield f"{label[:length].rstrip()}… {score}"
    yield score


def _tag(text: str, size_px: int) -> Tag:
    font = _font_for(text, size_px)
    left, top, right, bottom = font.getbbox(text)
    padding = max(size_px // 4, 1)
    size = (right - left + 2 * padding, bottom - top + 2 * padding)
    return Tag(text, font, padding, (left, top), size)


def _font_for(text: str, size_px: int) -> Font:
    """Return a font that has all characters of a text; Pillow's own if none has."""
    names = (None, *_OTHER_FONTS) if not text.isascii() else (None,)
    for name in names:
        font = _load(name, size_px)
        if font is not None and (text.isascii() or _has_all(font, text)):
            return font
    return ImageFont.load_default(size_px)


@cache
def _load(name: str | None, size_px: int) -> Font | None:
    if name is None:
        return ImageFont.load_default(size_px)
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:
        return None


def _has_all(font: Font, text: str) -> bool:
    missing = bytes(font.getmask(_NO_GLYPH))
    return all(sign.isspace() or bytes(font.getmask(sign)) != missing for sign in set(text))


def place_tags(
    tags: Sequence[Tag | None], boxes_xyxy: Sequence[Rectangle], image_wh: tuple[int, int]
) -> list[Rectangle | None]:
    """Return a place for each tag, inside of the picture, in the order of the tags.

    An earlier tag has the better place: above its box, else below it or inside, and hides no tag
    unless the picture has no room near the box.

    Args:
        tags: The tags; None for a box without one.
        boxes_xyxy: Their boxes in pixels, best first.
        image_wh: Size of the picture, pixels.
    """
    taken = np.zeros((len(tags), 4))
    count = 0
    places: list[Rectangle | None] = []
    for tag, box in zip(tags, boxes_xyxy, strict=True):
        if tag is None:
            places.append(None)
            continue
        candidates = _candidates(tag.wh, box, image_wh)
        near = _near(taken[:count], candidates)
        hidden = _overlaps(candidates, near) / (tag.wh[0] * tag.wh[1])
        cost = hidden + (hidden > 0) + _STEP_COST * np.arange(len(candidates))
        best = candidates[np.argmin(cost)]
        taken[count] = best
        count += 1
        left, top, right, bottom = map(float, best)
        places.append((left, top, right, bottom))
    return places


def _candidates(wh: tuple[float, float], box_xyxy: Rectangle, image_wh: tuple[int, int]) -> Floats:
    """Return places, the best first, moved into the picture. [K, 4] xyxy."""
    (width, height), (left, top, right, bottom) = wh, box_xyxy
    columns = (left, right - width, (left + right - width) / 2, right, left - width)
    rows = [top - height, bottom, top, bottom - height]
    for step in range(1, _STEPS):
        rows += [top - (step + 1) * height, bottom + step * height, top + step * height]
    x, y = np.tile(columns, len(rows)), np.repeat(rows, len(columns))
    x = np.clip(x, 0, max(image_wh[0] - width, 0))
    y = np.clip(y, 0, max(image_wh[1] - height, 0))
    return np.stack((x, y, x + width, y + height), axis=1)


def _near(taken: Floats, candidates: Floats) -> Floats:
    """Return the tags that a candidate could hide. [M, 4]."""
    start, end = candidates[:, :2].min(axis=0), candidates[:, 2:].max(axis=0)
    is_near = (taken[:, 2:] > start).all(axis=1) & (taken[:, :2] < end).all(axis=1)
    return np.compress(is_near, taken, axis=0)


def _overlaps(
    candidates: Floats,
    taken: Floats,
) -> Floats:
    """Return the area of other tags that each candidate hides, in square pixels. [K]."""
    ends = np.minimum(candidates[:, None, 2:], taken[None, :, 2:])
    starts = np.maximum(candidates[:, None, :2], taken[None, :, :2])
    sizes = np.clip(ends - starts, 0, None)
    areas: Floats = sizes.prod(axis=2).sum(axis=1)
    return areas
