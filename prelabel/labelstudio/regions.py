"""The entries of Label Studio that are regions: their common part, and their labels."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from prelabel.labelstudio.responses import Region, RegionType, RegionValue
from prelabel.labelstudio.shapes import Shape

PCT_DECIMALS = 4  # a hundredth of a pixel in a picture of 10,000
_SCORE_DECIMALS = 4
_ID_BYTES = 5  # Label Studio's own ids of regions have 10 characters, too


@dataclass(frozen=True, slots=True)
class RegionFrame:
    """The common part of all regions of one object.

    Attributes:
        to_name: Name of the object tag.
        image_wh: Width and height of the upright picture in pixels.
        item_index: Index of the picture in a list of pictures, None for a single picture.
        score: Score of the object.
    """

    to_name: str
    image_wh: tuple[int, int]
    item_index: int | None
    score: float

    def entries(
        self,
        shape: Shape,
        from_name: str,
        shape_name: str | None,
        label: str | None,
        value: RegionValue,
    ) -> list[Region]:
        """Return the entries of a region, with its label if it has one.

        These are two entries if one tag draws the region and another one, Labels, has the label.
        They share an id, by which Label Studio joins them, and both have the region's value.
        """
        if shape_name is None:
            kind = cast("RegionType", f"{shape}labels")
            if label is not None:
                value = {**value, kind: [label]}  # type: ignore[misc]
            return [self._entry(from_name, kind, value)]
        region = self._entry(shape_name, shape, value)
        if label is None:
            return [region]
        labelled: RegionValue = {**value, "labels": [label]}
        return [region, {**region, "from_name": from_name, "type": "labels", "value": labelled}]

    def box_entries(
        self,
        box_pct: Sequence[float],
        from_name: str,
        rectangle_name: str | None,
        label: str | None,
        phrase: str = "",
    ) -> list[Region]:
        """Return the entries of a box.

        Args:
            box_pct: Left, top, right and bottom in percent of the picture, rounded.
            from_name: Name of the control tag that has the label.
            rectangle_name: Name of the tag that draws the rectangle, if it is another one.
            label: Its label, None without one.
            phrase: The phrase that was searched for; stands as a note on a box without a label.
        """
        x, y, right, bottom = box_pct
        value = RegionValue(
            x=x,
            y=y,
            width=round(right - x, PCT_DECIMALS),
            height=round(bottom - y, PCT_DECIMALS),
            rotation=0,
        )
        entries = self.entries("rectangle", from_name, rectangle_name, label, value)
        if label is None and phrase:
            entries[0]["meta"] = {"text": [phrase]}
        return entries

    def _entry(self, from_name: str, kind: RegionType, value: RegionValue) -> Region:
        """Return an entry with a new id."""
        region = Region(
            id=new_id(),
            from_name=from_name,
            to_name=self.to_name,
            type=kind,
            original_width=self.image_wh[0],
            original_height=self.image_wh[1],
            image_rotation=0,
            score=round(self.score, _SCORE_DECIMALS),
            value=value,
        )
        if self.item_index is not None:
            region["item_index"] = self.item_index
        return region


def new_id() -> str:
    """Return a random id of a region."""
    return secrets.token_hex(_ID_BYTES)
