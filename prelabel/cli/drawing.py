"""Draws predicted boxes and masks onto an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from prelabel.cli.palette import RGB, Stroke, strokes
from prelabel.cli.tags import Rectangle, Tag, make_tag, place_tags
from prelabel.labelstudio.responses import Region
from prelabel.masks.rle import decode_rle
from prelabel.types import Masks

_TEXT_LINES_PER_EDGE = 28  # text height: the image's shorter edge / 28
_MIN_TEXT_PX = 10
_TINY_PX, _ENLARGED_PX, _LONGEST_ENLARGED_PX = 80, 160, 1600  # edges of images
_TRANSLUCENT, _OPAQUE = 110, 255  # opacity of masks inside and along their outline, of 255


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box of a prediction.

    Attributes:
        xyxy: Its corners in pixels of the image.
        label: Its label, which picks the stroke.
        text: The text of its tag.
        mask: bool [H, W], the mask of its object; None without one.
    """

    xyxy: tuple[float, float, float, float]
    label: str
    text: str
    mask: Masks | None = None

    @classmethod
    def of(cls, region: Region, brush: Region | None = None) -> DrawnBox:
        """Convert a rectangle region, whose coordinates are percentages of the image, and its mask.

        Raises:
            ValueError: The mask is not of the picture's size.
        """
        value, width, height = region["value"], region["original_width"], region["original_height"]
        left, top = value["x"] * width / 100, value["y"] * height / 100
        right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
        [label] = value["rectanglelabels"]
        text = f"{label} {region['score']:.2f}"
        mask = None
        if brush is not None:
            values = decode_rle(bytes(brush["value"]["rle"]), 4 * width * height)
            mask = values[::4].reshape(height, width) > 0
        return cls((left, top, right, bottom), label, text, mask)

    def scaled(self, scale: int) -> DrawnBox:
        """Return the box in an image that was enlarged."""
        left, top, right, bottom = (edge * scale for edge in self.xyxy)
        mask = None if self.mask is None else self.mask.repeat(scale, 0).repeat(scale, 1)
        return replace(self, xyxy=(left, top, right, bottom), mask=mask)


def draw_boxes(
    image: Image.Image, boxes: Sequence[DrawnBox], labels: Iterable[str] = ()
) -> Image.Image:
    """Return an RGB copy with the boxes and masks drawn, one stroke per label.

    Line width and text size follow the image's size; a tiny image is enlarged, so that a text can
    be read in it.

    Args:
        image: The picture.
        boxes: Its boxes, best first; drawn last, hence on top.
        labels: Labels whose strokes are chosen before those of the boxes, so that a label looks
            the same in all pictures of a run.
    """
    canvas, scale = _enlarged(image.convert("RGB"))
    boxes = [box.scaled(scale) for box in boxes] if scale > 1 else boxes
    text_px = max(round(min(canvas.size) / _TEXT_LINES_PER_EDGE), _MIN_TEXT_PX)
    by_label = strokes([*labels, *(box.label for box in boxes)])
    for box in reversed(boxes):
        if box.mask is not None:
            colour = by_label[box.label].colour
            _draw_mask(canvas, box.mask, colour, max(round(text_px / 8), 2))
    draw = ImageDraw.Draw(canvas)
    for box in reversed(boxes):
        _draw_outline(draw, box.xyxy, by_label[box.label], max(round(text_px / 6), 2), canvas.size)
    # All tags after all outlines, so that no outline crosses a tag.
    tags = [make_tag(box.text, text_px, canvas.size) for box in boxes]
    places = place_tags(tags, [box.xyxy for box in boxes], canvas.size)
    for box, tag, place in reversed(list(zip(boxes, tags, places, strict=True))):
        if tag is not None and place is not None:
            _draw_tag(draw, tag, place, by_label[box.label])
    return canvas


def _enlarged(image: Image.Image) -> tuple[Image.Image, int]:
    """Return a tiny image enlarged by a whole number, and the number."""
    shorter, longer = sorted(image.size)
    if shorter >= _TINY_PX:
        return image, 1
    scale = max(min(-(-_ENLARGED_PX // shorter), _LONGEST_ENLARGED_PX // longer), 1)
    size = (image.width * scale, image.height * scale)
    return image.resize(size, Image.Resampling.NEAREST), scale


def _draw_mask(canvas: Image.Image, mask: Masks, colour: RGB, line_px: int) -> None:
    """Tint the pixels of a mask, and draw its outline inside of them."""
    inside = Image.fromarray(mask)
    # Padded, so that the outline also follows the picture's edge.
    padded = ImageOps.expand(inside.convert("L"), line_px)
    core = padded.filter(ImageFilter.MinFilter(2 * line_px - 1))
    core = ImageOps.crop(core, line_px)
    opacity = core.point([_OPAQUE if value == 0 else _TRANSLUCENT for value in range(256)])
    opacity.paste(0, mask=ImageChops.invert(inside.convert("L")))
    canvas.paste(colour, mask=opacity)


def _draw_outline(
    draw: ImageDraw.ImageDraw,
    xyxy: Rectangle,
    stroke: Stroke,
    line_px: int,
    image_wh: tuple[int, int],
) -> None:
    """Draw a rectangle in a stroke, with a casing of another lightness on both sides."""
    casing_px = max(line_px // 4, 1)
    left, right = (min(max(edge, 0), image_wh[0] - 1) for edge in xyxy[::2])
    top, bottom = (min(max(edge, 0), image_wh[1] - 1) for edge in xyxy[1::2])
    draw.rectangle(
        (left - casing_px, top - casing_px, right + casing_px, bottom + casing_px),
        outline=stroke.contrast,
        width=line_px + 2 * casing_px,
    )
    if not stroke.pattern:
        draw.rectangle((left, top, right, bottom), outline=stroke.colour, width=line_px)
        return
    thick = line_px - 1
    for start, end in _dashes(left, right, stroke.pattern, line_px):
        draw.rectangle((start, top, end, min(top + thick, bottom)), fill=stroke.colour)
        draw.rectangle((start, max(bottom - thick, top), end, bottom), fill=stroke.colour)
    for start, end in _dashes(top, bottom, stroke.pattern, line_px):
        draw.rectangle((left, start, min(left + thick, right), end), fill=stroke.colour)
        draw.rectangle((max(right - thick, left), start, right, end), fill=stroke.colour)


def _dashes(
    start: float, end: float, pattern: Sequence[int], line_px: int
) -> Iterator[tuple[float, float]]:
    """Yield the dashes of a line, in pixels."""
    for dash, gap in cycle(zip(pattern[::2], pattern[1::2], strict=True)):
        if start > end:
            return
        yield start, min(start + dash * line_px - 1, end)
        start += (dash + gap) * line_px


def _draw_tag(draw: ImageDraw.ImageDraw, tag: Tag, place: Rectangle, stroke: Stroke) -> None:
    left, top, right, bottom = place
    draw.rectangle((left, top, right - 1, bottom - 1), fill=stroke.colour)
    # The ink of a text does not begin at its origin.
    origin = (left + tag.padding_px - tag.bearing_px[0], top + tag.padding_px - tag.bearing_px[1])
    draw.text(origin, tag.text, fill=stroke.contrast, font=tag.font)
