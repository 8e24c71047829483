"""The regions that an annotation already has, as boxes: they are not suggested again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Final

from PIL import Image
from pydantic import JsonValue

from prelabel.errors import PrelabelError
from prelabel.images.decode import PILLOW_ERRORS
from prelabel.labelstudio.data_urls import decode_data_url
from prelabel.labelstudio.result_entries import BoxPct, ResultEntry, box_pct, is_pct, label_of
from prelabel.labelstudio.shapes import BOX_TYPES, DRAWING_TAGS, LABEL_TAGS
from prelabel.masks.rle import rle_bounds
from prelabel.types import PresentRegion

_LABELLED: Final = frozenset(tag.lower() for tag in LABEL_TAGS)
_UNLABELLED: Final = frozenset(tag.lower() for tag in DRAWING_TAGS)
# Of one annotation. Reading them takes a quarter of a second; the masks beyond are passed over.
_MOST_RLE_BYTES = 256 * 1024
_MOST_BITMASK_PIXELS = 20_000_000
_MOST_BITMASK_BYTES = 4 * 1024 * 1024


def present_regions(entries: Sequence[ResultEntry]) -> tuple[PresentRegion, ...]:
    """Return the boxes of an annotation's regions. Entries without a box or a mask are ignored.

    So are masks whose box is one of the regions, and masks that are damaged.
    """
    # A region and its labels are two entries with one id; the labels' entry has the form, too.
    labelled_ids = {entry.id for entry in entries if entry.type == "labels" and label_of(entry)}
    box_ids = {entry.id for entry in entries if entry.type in BOX_TYPES}
    reader = BoundsReader()
    return tuple(
        PresentRegion(entry.to_name or "", entry.item_index, label_of(entry), box)
        for entry in entries
        if entry.type in _LABELLED or (entry.type in _UNLABELLED and entry.id not in labelled_ids)
        if entry.parent_id is None or entry.parent_id not in box_ids
        if (box := reader.bounds_pct(entry)) is not None
    )


class BoundsReader:
    """Reads the boxes around the regions of one annotation, within limits of time."""

    def __init__(self) -> None:
        self._rle_bytes_left = _MOST_RLE_BYTES
        self._pixels_left = _MOST_BITMASK_PIXELS
        self._readers: Mapping[str, Callable[[JsonValue, ResultEntry], BoxPct | None]] = {
            "points": _points_bounds,
            "vertices": _vertices_bounds,
            "rle": self._rle_bounds,
            "imageDataURL": self._bitmask_bounds,
        }

    def bounds_pct(self, entry: ResultEntry) -> BoxPct | None:
        """Return left, top, right and bottom of a region in percent of the picture, or None."""
        value = entry.value or {}
        for name, read in self._readers.items():
            if name in value:
                return read(value[name], entry)
        return box_pct(entry)

    def _rle_bounds(self, codes: JsonValue, entry: ResultEntry) -> BoxPct | None:
        wh = entry.original_wh
        if wh is None or not isinstance(codes, list) or len(codes) > self._rle_bytes_left:
            return None
        self._rle_bytes_left -= len(codes)
        try:
            bounds = rle_bounds(bytes(codes), wh)  # type: ignore[arg-type]
        except (TypeError, ValueError, PrelabelError):  # not numbers, or not bytes, or no code
            return None
        return _pct(bounds, wh)

    def _bitmask_bounds(self, url: JsonValue, entry: ResultEntry) -> BoxPct | None:
        wh = entry.original_wh
        if wh is None or not isinstance(url, str) or wh[0] * wh[1] > self._pixels_left:
            return None
        self._pixels_left -= wh[0] * wh[1]
        try:
            with Image.open(
                BytesIO(decode_data_url(url, _MOST_BITMASK_BYTES)), formats=("PNG",)
            ) as mask:
                if mask.size != wh:
                    return None
                bounds = mask.convert("RGBA").getchannel("A").getbbox()
        except (PrelabelError, *PILLOW_ERRORS):
            return None
        return _pct(bounds, wh)


def _points_bounds(points: JsonValue, _: ResultEntry) -> BoxPct | None:
    if not isinstance(points, list):
        return None
    pairs = [point for point in points if isinstance(point, list) and len(point) == 2]
    return _around([(x, y) for x, y in pairs])


def _vertices_bounds(vertices: JsonValue, _: ResultEntry) -> BoxPct | None:
    if not isinstance(vertices, list):
        return None
    return _around([(each.get("x"), each.get("y")) for each in vertices if isinstance(each, dict)])


def _around(points: Sequence[tuple[JsonValue, JsonValue]]) -> BoxPct | None:
    """Return the box around points in percent of the picture; None if one is not in the picture."""
    if not points or not all(is_pct(x) and is_pct(y) for x, y in points):
        return None
    xs, ys = ([float(number) for number in axis] for axis in zip(*points, strict=True))
    return min(xs), min(ys), max(xs), max(ys)


def _pct(bounds: tuple[int, int, int, int] | None, wh: tuple[int, int]) -> BoxPct | None:
    if bounds is None:
        return None
    left, top, right, bottom = bounds
    width, height = wh
    return 100 * left / width, 100 * top / height, 100 * right / width, 100 * bottom / height
