"""Pictures, boxes and outlines as entries of a COCO file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prelabel.types import Floats

DECIMALS = 3  # of pixels


def coco_image(number: int, file_name: str, image_wh: tuple[int, int]) -> dict[str, object]:
    """Return the entry of a picture. `number` is its id."""
    width, height = image_wh
    return {"id": number, "file_name": file_name, "width": width, "height": height}


def coco_annotation(
    number: int,
    image: int,
    category: int,
    box_xyxy: Sequence[float],
    score: float,
    rings_xy: Sequence[Floats] = (),
) -> dict[str, object]:
    """Return the entry of a box.

    Args:
        number: Its id.
        image: Id of its picture.
        category: Id of its label.
        box_xyxy: Left, top, right and bottom in pixels of the upright picture.
        score: Its score.
        rings_xy: The outlines of its mask, [n, 2] each. The area is then theirs.
    """
    x, y, right, bottom = (round(edge, DECIMALS) for edge in box_xyxy)
    width, height = round(right - x, DECIMALS), round(bottom - y, DECIMALS)
    outlined = sum(_area(ring) for ring in rings_xy)
    annotation: dict[str, object] = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, width, height],
        "area": round(outlined if rings_xy else width * height, DECIMALS),
        "iscrowd": 0,
        "score": score,
    }
    if rings_xy:
        annotation["segmentation"] = [ring.round(DECIMALS).ravel().tolist() for ring in rings_xy]
    return annotation


def coco_categories(labels: Sequence[str]) -> list[dict[str, object]]:
    """Return the entries of labels. Their ids begin with 1."""
    return [{"id": number, "name": name} for number, name in enumerate(labels, start=1)]


def _area(ring_xy: Floats) -> float:
    """Return the area of a polygon by the shoelace formula."""
    x, y = ring_xy.astype(np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
