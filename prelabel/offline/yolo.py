"""Rows -> a data set in the form of Ultralytics' YOLO: one text file a picture."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from prelabel.labelstudio.task_rows import RowPicture, TaskRow

_DECIMALS: Final = 6  # a thousandth of a pixel in a picture of 1,000
_LONGEST_NAME: Final = 200  # bytes of a part of a path; file systems allow 255


def write_yolo(
    rows: Iterable[TaskRow], labels: Sequence[str], folder: Path, pictures: Path | None
) -> list[str]:
    """Write the boxes of rows as a YOLO data set. Return the pictures that have no file in it.

    The folders of the pictures are mirrored below `labels`. Pictures whose names differ in their
    suffix alone would have the same file: the first one gets it.

    Args:
        rows: The rows.
        labels: The labels of the labeling config.
        folder: The folder; it is replaced when the new one is whole.
        pictures: The folder of the pictures, to which a link `images` is made; None without one.

    Raises:
        OSError: A file cannot be written.
    """
    part = folder.with_name(f".{folder.name}.part")
    if part.exists():
        shutil.rmtree(part)
    (part / "labels").mkdir(parents=True)
    classes = {label: number for number, label in enumerate(labels)}
    clashing = []
    for row in rows:
        for number, picture in enumerate(row.pictures):
            lines = [
                _line(classes.setdefault(box.label, len(classes)), box.box_xyxy, picture.wh)
                for box in row.boxes
                if box.picture == number
            ]
            path = part / "labels" / f"{_stem(row, picture)}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("x") as file:
                    file.writelines(lines)
            except FileExistsError:
                clashing.append(picture.file or row.key)
    names = [" ".join(label.split()) for label in classes]
    (part / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    (part / "data.yaml").write_text(_yaml(names))
    if pictures is not None:
        (part / "images").symlink_to(pictures.resolve())
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return clashing


def _line(number: int, box_xyxy: tuple[float, float, float, float], wh: tuple[int, int]) -> str:
    """Return class, centre, width and height, the latter four in 0..1 of the picture."""
    x0, y0, x1, y1 = box_xyxy
    width, height = wh
    values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    return " ".join([str(number), *(f"{value:.{_DECIMALS}f}" for value in values)]) + "\n"


def _stem(row: TaskRow, picture: RowPicture) -> PurePosixPath:
    """Return the path of a picture without suffix, below the folder of the pictures.

    Of an address, the host and the query are left out, except `d=` of Label Studio's local files.
    """
    file = picture.file or row.key
    if picture.file != row.key:
        parts = urlsplit(file)
        file = unquote(parts.query[2:] if parts.query.startswith("d=") else parts.path)
    path = PurePosixPath(file)
    names = [name for name in path.with_suffix("").parts if name not in ("/", "..", ".")]
    return PurePosixPath(*(map(_short, names))) if names else PurePosixPath(row.key)


def _short(name: str) -> str:
    """Return a name that file systems accept."""
    encoded = name.replace("\0", "_").encode()
    if len(encoded) <= _LONGEST_NAME:
        return encoded.decode()
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"


def _yaml(names: Sequence[str]) -> str:
    listed = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
    return f"path: .\ntrain: images\nval: images\nnames:\n{listed}" if names else "names: {}\n"
