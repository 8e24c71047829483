"""Masks as Label Studio's regions: brushes, polygons, bitmasks and vectors.

In: the logits of masks and their targets. Out: the entries of an annotation. This module alone
decides what of a mask is drawn: its holes and islands, its overlaps with other masks, and the most
bytes that the masks of a task may have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prelabel.labelstudio.regions import PCT_DECIMALS, RegionFrame, new_id
from prelabel.labelstudio.responses import (
    Region,
    RegionMeta,
    RegionValue,
    Vertex,
    value_bytes,
)
from prelabel.masks.bitmask import bitmask_data_url
from prelabel.masks.logits import mask_runs
from prelabel.masks.polygons import Ring, polygons
from prelabel.masks.rle import encode_rle
from prelabel.masks.runs import bounds, mask_of_runs, without_overlaps
from prelabel.settings import MaskSettings
from prelabel.types import Floats, Ints, MaskLogits, MaskTarget, Target

_QUALITY_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class DrawnRegion:
    """One region of a mask, without what all regions of its object share.

    Attributes:
        target: Its control tag and label.
        value: Its form, in percent of the picture or in the picture's own pixels.
        note: A sentence about parts of the mask that the form cannot show; "" if it shows all.
    """

    target: MaskTarget
    value: RegionValue
    note: str = ""


@dataclass(frozen=True, slots=True)
class DrawnMask:
    """The mask of one object, ready to be an answer.

    Attributes:
        bounds: xyxy of its pixels.
        quality: IoU with the object as the model estimates it.
        regions: Its regions: none if no control tag draws it, or all were left out.
    """

    bounds: tuple[int, int, int, int]
    quality: float
    regions: tuple[DrawnRegion, ...]


class MaskPen:
    """Draws the masks of one task, within a budget of bytes.

    Args:
        settings: Settings of the masks of a task.
    """

    def __init__(self, settings: MaskSettings) -> None:
        self._settings = settings
        self._bytes_left = settings.max_bytes
        self._left_out = 0  # masks, for lack of bytes
        self._beyond_limit = 0  # boxes without a mask, for lack of masks

    def draw(
        self,
        masks: Sequence[MaskLogits | None],
        targets: Sequence[Target],
        scores: Floats,
        image_wh: tuple[int, int],
    ) -> list[DrawnMask | None]:
        """Return what is drawn of each mask of a picture; None for objects without a mask.

        Args:
            masks: The mask of each object, best score first.
            targets: The target of each object.
            scores: The score of each object.
            image_wh: Width and height of the upright picture in pixels.
        """
        settings = self._settings
        self._beyond_limit += sum(
            mask is None and any(score >= each.min_score for each in target.masks)
            for mask, target, score in zip(masks, targets, scores, strict=True)
        )
        rows = [row for row, mask in enumerate(masks) if mask is not None]
        present = [mask for mask in masks if mask is not None]
        runs = [
            mask_runs(mask, image_wh, settings.min_island_px, settings.min_hole_px)
            for mask in present
        ]
        if settings.overlaps == "best_score":
            runs = without_overlaps(runs)
        drawn: list[DrawnMask | None] = [None] * len(masks)
        for row, mask, own in zip(rows, present, runs, strict=True):
            extent = bounds(own, image_wh[0])
            if extent is not None:
                due = [t for t in targets[row].masks if scores[row] >= t.min_score]
                regions = tuple(self._regions(mask, own, due, image_wh))
                drawn[row] = DrawnMask(extent, mask.quality, regions)
        return drawn

    def notes(self) -> list[str]:
        """Return what was left out so far, as sentences."""
        notes = []
        if self._beyond_limit:
            notes.append(
                f"Boxes without a mask: {self._beyond_limit}. A picture gets at most "
                f"{self._settings.max_masks} masks. Raise masks.max_masks, or the threshold."
            )
        if self._left_out:
            notes.append(
                f"Masks left out: {self._left_out}. Those of a task may have "
                f"{self._settings.max_bytes} bytes. Use PolygonLabels, whose masks are "
                "smaller, or raise masks.max_bytes."
            )
        return notes

    def _regions(
        self,
        mask: MaskLogits,
        runs: Ints,
        targets: Sequence[MaskTarget],
        image_wh: tuple[int, int],
    ) -> Iterator[DrawnRegion]:
        rings: Sequence[Ring] | None = None
        for target in targets:
            if target.shape in ("polygon", "vector"):
                if rings is None:
                    rings = self._rings(mask, runs, image_wh)
                shapes = [_ring_region(target, ring, image_wh) for ring in rings]
            elif target.shape == "brush":
                rle = encode_rle(runs, image_wh[0] * image_wh[1])
                shapes = [DrawnRegion(target, RegionValue(format="rle", rle=list(rle)))]
            else:
                url = bitmask_data_url(runs, image_wh)
                shapes = [DrawnRegion(target, RegionValue(imageDataURL=url))]
            size = sum(value_bytes(shape.value) for shape in shapes)
            if size > self._bytes_left:
                self._left_out += 1
                continue
            self._bytes_left -= size
            yield from shapes

    def _rings(self, mask: MaskLogits, runs: Ints, image_wh: tuple[int, int]) -> Sequence[Ring]:
        settings = self._settings
        if settings.overlaps == "best_score":  # the logits do not know of other masks
            mask = _logits_of(runs, mask, image_wh)
        rings = polygons(
            mask,
            image_wh,
            min_island_px=settings.min_island_px,
            min_hole_px=settings.min_hole_px,
            tolerance_px=settings.polygon_tolerance_px,
        )
        return rings[:1] if settings.polygon_parts == "largest" else rings


def mask_entries(mask: DrawnMask, frame: RegionFrame, parent: str | None) -> Iterator[Region]:
    """Yield the entries of a mask.

    Args:
        mask: The mask.
        frame: The common part of all regions of the object.
        parent: Id of that box, which is their parent; None without a box. The box and its masks
            have ids of their own, because of two regions with one id Label Studio keeps the first.
    """
    quality = round(mask.quality, _QUALITY_DECIMALS)
    for drawn in mask.regions:
        target = drawn.target
        meta = RegionMeta(mask_quality=quality)
        if drawn.note:
            meta["text"] = [drawn.note]
        for entry in frame.entries(
            target.shape, target.from_name, target.shape_name, target.label, drawn.value
        ):
            entry["meta"] = meta
            if parent is not None:
                entry["parentID"] = parent
            yield entry


def _logits_of(runs: Ints, mask: MaskLogits, image_wh: tuple[int, int]) -> MaskLogits:
    """Return the runs of a mask as logits of 1 and -1, one cell for each pixel of the picture."""
    extent = bounds(runs, image_wh[0])
    assert extent is not None  # empty masks are not drawn
    inside = mask_of_runs(runs, image_wh, extent)
    return MaskLogits(
        logits=np.where(np.pad(inside, 1), 1, -1).astype(np.float16),
        origin_xy=(extent[0] - 1, extent[1] - 1),
        cells_wh=image_wh,
        view_xyxy=(0, 0, *image_wh),
        clip_xyxy=None,
        quality=mask.quality,
    )


def _ring_region(target: MaskTarget, ring: Ring, image_wh: tuple[int, int]) -> DrawnRegion:
    points = (ring.points_xy / image_wh * 100).clip(0, 100).round(PCT_DECIMALS).tolist()
    note = ""
    if ring.lost_holes:
        holes = "a hole" if ring.lost_holes == 1 else f"{ring.lost_holes} holes"
        note = f"The mask has {holes}, which one outline cannot show."
    if target.shape == "polygon":
        return DrawnRegion(target, RegionValue(points=points, closed=True), note)
    ids = [new_id() for _ in points]
    vertices = [
        Vertex(x=x, y=y, id=own, isBezier=False, prevPointId=before)
        for (x, y), own, before in zip(points, ids, [None, *ids[:-1]], strict=True)
    ]
    return DrawnRegion(target, RegionValue(vertices=vertices, closed=True), note)
