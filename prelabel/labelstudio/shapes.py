"""The shapes of regions, and the control tags that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from prelabel.types import MaskShape

Shape = Literal["rectangle"] | MaskShape

# Types of the entries that have a box; "labels" repeats the box of its rectangle.
BOX_TYPES: Final = ("rectanglelabels", "rectangle")
# Tags that have labels, with the shape of their regions.
LABEL_TAGS: Final[Mapping[str, Shape | None]] = {
    "RectangleLabels": "rectangle",
    "BrushLabels": "brush",
    "PolygonLabels": "polygon",
    "BitmaskLabels": "bitmask",
    "VectorLabels": "vector",
    "Labels": None,
}
# Tags whose regions a Labels tag labels.
DRAWING_TAGS: Final[Mapping[str, Shape]] = {
    "Rectangle": "rectangle",
    "Brush": "brush",
    "Polygon": "polygon",
    "Bitmask": "bitmask",
    "Vector": "vector",
}
