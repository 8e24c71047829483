"""Rows -> a file of COCO instances, of any size in bounded memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from prelabel.labelstudio.task_rows import TaskRow
from prelabel.masks.coco import coco_annotation, coco_categories, coco_image


def write_coco(rows: Iterable[TaskRow], labels: Sequence[str], path: Path) -> int:
    """Write the boxes of rows as one file of COCO instances. Return the number of boxes.

    An annotation has `bbox` [x, y, width, height] in pixels of the upright picture and `score`.
    Categories are the labels, then the phrases of boxes without a label; ids begin with 1.

    Args:
        rows: The rows.
        labels: The labels of the labeling config.
        path: The file; it is replaced when the new one is whole.

    Raises:
        OSError: The file cannot be written.
    """
    categories = {label: number for number, label in enumerate(labels, start=1)}
    boxes_path = path.with_name(f".{path.name}.annotations")
    part = path.with_name(f".{path.name}.part")
    picture_id = box_id = 0
    try:
        with part.open("wb") as file, boxes_path.open("wb+") as boxes:
            file.write(b'{"images":[')
            for row in rows:
                first = picture_id + 1
                for picture in row.pictures:
                    picture_id += 1
                    image = coco_image(picture_id, picture.file or row.key, picture.wh)
                    _write(file, image, picture_id)
                for box in row.boxes:
                    box_id += 1
                    category = categories.setdefault(box.label, len(categories) + 1)
                    annotation = coco_annotation(
                        box_id, first + box.picture, category, box.box_xyxy, box.score
                    )
                    _write(boxes, annotation, box_id)
            file.write(b'\n],"annotations":[')
            boxes.seek(0)
            shutil.copyfileobj(boxes, file)
            listed = json.dumps(coco_categories(list(categories)))
            file.write(b'\n],"categories":' + listed.encode() + b"}\n")
        part.replace(path)
    finally:
        boxes_path.unlink(missing_ok=True)
    return box_id


def _write(file: BinaryIO, value: dict[str, object], number: int) -> None:
    comma = b",\n" if number > 1 else b"\n"
    file.write(comma + json.dumps(value, separators=(",", ":")).encode())
