"""Tasks with predictions in files: rows of JSON that Label Studio imports as they are.

A row is a task: its data, one prediction, and under `meta` the key of the input, the pictures with
their sizes, which a prediction without regions does not have, and the notes on the prediction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from pydantic import JsonValue

from prelabel.errors import LabelingConfigError
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.responses import Prediction
from prelabel.labelstudio.shapes import BOX_TYPES
from prelabel.types import LookPlan

_META: Final = "prelabel"
_STORED: Final = ("model_version", "score", "result")  # of a prediction, by Label Studio
_PX_DECIMALS: Final = 3
_MAX_FILE_CHARS: Final = 2_000  # of a picture's address; longer ones are whole pictures


@dataclass(frozen=True, slots=True)
class RowPicture:
    """A picture of a row that was searched.

    Attributes:
        to_name: Name of its Image tag.
        item_index: Index in a list of pictures, None for a single picture.
        wh: Width and height of the upright picture in pixels.
        file: Its path or address; empty for a picture that is in the task itself.
    """

    to_name: str
    item_index: int | None
    wh: tuple[int, int]
    file: str


@dataclass(frozen=True, slots=True)
class RowBox:
    """A box of a row.

    Attributes:
        picture: Index in `TaskRow.pictures`.
        label: Its label, or without one the phrase that was searched for.
        score: Its score, 0..1.
        box_xyxy: Left, top, right and bottom in pixels of the upright picture.
    """

    picture: int
    label: str
    score: float
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task with its prediction, as far as other formats need it.

    Attributes:
        key: Key of the input.
        data: The task's data.
        prediction: The prediction.
        pictures: The pictures that were searched.
        boxes: The boxes of all pictures.
    """

    key: str
    data: Mapping[str, JsonValue]
    prediction: Mapping[str, JsonValue]
    pictures: tuple[RowPicture, ...]
    boxes: tuple[RowBox, ...]


def to_row_picture(look: LookPlan, wh: tuple[int, int], file: str | None = None) -> RowPicture:
    """Return the picture of a look.

    Args:
        look: The look.
        wh: Width and height of the upright picture in pixels.
        file: Its path; None for the address in the task.
    """
    file = look.uri if file is None else file
    is_inside = file.startswith("data:") or len(file) > _MAX_FILE_CHARS
    names = {target.to_name for target in look.targets if target is not None}
    return RowPicture(min(names, default=""), look.item_index, wh, "" if is_inside else file)


def to_line(
    key: str,
    data: Mapping[str, JsonValue],
    more: Mapping[str, JsonValue],
    prediction: Prediction,
    pictures: Sequence[RowPicture],
) -> bytes:
    """Return the row of a task as a line of JSON, with its end.

    Args:
        key: Key of the input.
        data: The task's data.
        more: Further keys of the task.
        prediction: Its prediction.
        pictures: The pictures that were searched.
    """
    meta = more.get("meta")
    notes = {name: value for name, value in prediction.items() if name not in _STORED}
    facts = {"input": key, "pictures": [asdict(picture) for picture in pictures], **notes}
    own = {_META: facts}
    row = {
        **more,
        "data": data,
        "predictions": [{name: prediction.get(name) for name in _STORED}],
        "meta": {**meta, **own} if isinstance(meta, dict) else own,
    }
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def key_of_line(line: bytes) -> str:
    """Return the key of a row. Raises ValueError if the line is no row."""
    try:
        return str(json.loads(line)["meta"][_META]["input"])
    except (KeyError, TypeError) as error:
        raise ValueError("not a row of prelabel's") from error


def read_line(line: bytes) -> TaskRow:
    """Return the row in a line. Raises ValueError if the line is no row."""
    try:
        row = json.loads(line)
        meta, [prediction] = row["meta"][_META], row["predictions"]
        pictures = tuple(
            RowPicture(each["to_name"], each["item_index"], tuple(each["wh"]), each["file"])
            for each in meta["pictures"]
        )
        boxes = tuple(_boxes(prediction["result"], pictures))
        return TaskRow(str(meta["input"]), row["data"], prediction, pictures, boxes)
    except (KeyError, TypeError) as error:
        raise ValueError("not a row of prelabel's") from error


def _boxes(result: Sequence[Mapping[str, Any]], pictures: Sequence[RowPicture]) -> Iterator[RowBox]:
    """Yield the boxes. A `rectangle` and its `labels` are one box. Masks are left out."""
    labelled = {entry["id"]: entry for entry in result if entry["type"] == "labels"}
    places = {(each.to_name, each.item_index): i for i, each in enumerate(pictures)}
    for entry in result:
        if entry["type"] not in BOX_TYPES:
            continue
        picture = places[entry["to_name"], entry.get("item_index")]
        value = entry["value"]
        named = labelled.get(entry["id"], entry)["value"]
        labels = named.get("rectanglelabels") or named.get("labels")
        notes = entry.get("meta", {}).get("text", [""])
        width, height = pictures[picture].wh
        left, top = value["x"] * width / 100, value["y"] * height / 100
        corners = (
            left,
            top,
            left + value["width"] * width / 100,
            top + value["height"] * height / 100,
        )
        x0, y0, x1, y1 = (round(corner, _PX_DECIMALS) for corner in corners)
        label = labels[0] if labels else notes[0]
        yield RowBox(picture, label, float(entry["score"]), (x0, y0, x1, y1))


def boxes_config(labels: Sequence[str]) -> str:
    """Return a labeling config for boxes with these labels on the picture of a task."""
    tags = "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<RectangleLabels name="label" toName="image">{tags}</RectangleLabels></View>'
    )


def picture_field(config: LabelingConfig) -> tuple[str, bool]:
    """Return the field of a task that has its picture, and whether it has a list of them.

    Raises LabelingConfigError if the config has several Image tags, or one whose value is not a
    single field.
    """
    if len(config.images) != 1:
        names = ", ".join(image.name for image in config.images)
        raise LabelingConfigError(
            f"The labeling config has several Image tags with controls ({names}), and the input "
            "has one picture a task. Give a config with one of them, or tasks as a .jsonl file."
        )
    [image] = config.images
    field = image.value[1:]
    if not image.value.startswith("$") or not field.isidentifier():
        raise LabelingConfigError(
            f"The value of the Image tag is {image.value!r}. Pictures of a folder need the name of "
            'one field there, such as value="$image".'
        )
    return field, image.is_list
