"""Strokes that tell labels apart, for people with and without colour blindness."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

RGB = tuple[int, int, int]

# Found by a search for the greatest least distance of two colours (CIEDE2000) over usual vision,
# protanopia, deuteranopia and tritanopia: 20.0, and 10.9 for the colours of Okabe and Ito. In an
# order in which the first ones are the farthest apart.
PALETTE: Final[tuple[RGB, ...]] = (
    (255, 224, 0),
    (128, 32, 96),
    (160, 160, 224),
    (0, 96, 0),
    (0, 160, 0),
    (192, 96, 128),
    (96, 64, 224),
    (128, 224, 192),
)
# Lengths of dash and gap in turn, in line widths; the first eight labels have whole lines.
PATTERNS: Final[tuple[tuple[int, ...], ...]] = ((), (4, 3), (1, 2), (5, 2, 1, 2))
_BLACK: Final[RGB] = (0, 0, 0)
_WHITE: Final[RGB] = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Stroke:
    """Colour of a label, and the pattern of its lines."""

    colour: RGB
    pattern: tuple[int, ...] = ()

    @property
    def contrast(self) -> RGB:
        """Black or white: of text on the colour, and of the casing that lifts a line off a picture.

        The one with the greater contrast by WCAG, which is 4.5 at least for all of the palette.
        """
        white, black = contrast_ratio(self.colour, _WHITE), contrast_ratio(self.colour, _BLACK)
        return _WHITE if white > black else _BLACK


def contrast_ratio(one: RGB, other: RGB) -> float:
    """Return the contrast of two colours by WCAG 2, between 1 and 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: RGB) -> float:
    shares = [value / 255 for value in colour]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def strokes(labels: Iterable[str]) -> dict[str, Stroke]:
    """Return a stroke for each label, in their order. More than 32 labels share some."""
    found: dict[str, Stroke] = {}
    for label in labels:
        if label not in found:
            turn, colour = divmod(len(found), len(PALETTE))
            found[label] = Stroke(PALETTE[colour], PATTERNS[turn % len(PATTERNS)])
    return found
