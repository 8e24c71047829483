"""COCO, YOLO and Parquet have the boxes of the shards."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from pycocotools.coco import COCO

from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.task_rows import RowPicture, TaskRow, read_line
from prelabel.offline.coco import write_coco
from prelabel.offline.exports import Format, export
from prelabel.offline.folders import FolderSource
from prelabel.offline.items import OutputError
from prelabel.offline.predictor import Search
from prelabel.offline.results import shard_paths
from prelabel.offline.task_files import TaskFileSource
from tests.support.counting_engine import encoded
from tests.support.offline import ADDRESS, LABELS, annotate, counting_predictor, pictures_in

ALL = tuple(Format)


@pytest.fixture
def annotated(tmp_path: Path) -> tuple[Path, list[TaskRow]]:
    """Pictures of two folders, with names that need care."""
    photos = pictures_in(tmp_path / "photos", 7)
    for name in ("1/a b%20.jpg", "1/same.png", "1/same.jpg", "2/same.png", "tall.png"):
        (photos / name).write_bytes(encoded((33, 70)))
    annotate(FolderSource(photos, ADDRESS), tmp_path / "out", counting_predictor(), shard_rows=5)
    return tmp_path / "out", rows(tmp_path / "out")


def rows(out: Path) -> list[TaskRow]:
    return [read_line(line) for path in shard_paths(out) for line in path.read_bytes().splitlines()]


def test_coco_has_every_picture_and_box(annotated: tuple[Path, list[TaskRow]]) -> None:
    out, stored = annotated
    export(out, ALL, LABELS, None)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(out / "coco/instances.json")
    names = {each["id"]: each["name"] for each in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == ["cat", "dog"]
    by_file = {each["file_name"]: each for each in coco.loadImgs(coco.getImgIds())}
    assert by_file.keys() == {row.key for row in stored}
    assert sum(len(row.boxes) for row in stored) == len(coco.getAnnIds()) > len(stored)
    for row in stored:
        image = by_file[row.key]
        assert (image["width"], image["height"]) == row.pictures[0].wh
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert [names[each["category_id"]] for each in found] == [box.label for box in row.boxes]
        assert [each["score"] for each in found] == [box.score for box in row.boxes]
        boxes = np.array([each["bbox"] for each in found])
        wanted = np.array([box.box_xyxy for box in row.boxes])
        np.testing.assert_allclose(boxes[:, :2], wanted[:, :2])
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], wanted[:, 2:], atol=2e-3)


def test_yolo_has_every_box_within_rounding(annotated: tuple[Path, list[TaskRow]]) -> None:
    out, stored = annotated
    notes = export(out, ALL, LABELS, out)
    assert [note for note in notes if "same.png" in note or "same.jpg" in note]
    names = yaml.safe_load((out / "yolo/data.yaml").read_text())["names"]
    assert list(names.values()) == (out / "yolo/classes.txt").read_text().splitlines()
    files = {path.relative_to(out / "yolo/labels") for path in out.glob("yolo/labels/**/*.txt")}
    assert files == {Path(row.key).with_suffix(".txt") for row in stored}
    assert (out / "yolo/images").resolve() == out
    for row in stored:
        lines = (out / "yolo/labels" / Path(row.key).with_suffix(".txt")).read_text().splitlines()
        assert [names[int(line.split()[0])] for line in lines] == [box.label for box in row.boxes]
        width, height = row.pictures[0].wh
        for line, box in zip(lines, row.boxes, strict=True):
            x, y, w, h = map(float, line.split()[1:])
            corners = [(x - w / 2) * width, (y - h / 2) * height]
            corners += [(x + w / 2) * width, (y + h / 2) * height]
            np.testing.assert_allclose(corners, box.box_xyxy, atol=1e-3 + 1e-6 * max(width, height))


def test_parquet_has_the_same_rows(annotated: tuple[Path, list[TaskRow]]) -> None:
    out, stored = annotated
    export(out, ALL, LABELS, None)
    table = pyarrow.parquet.read_table(out / "parquet").to_pylist()
    assert [row["input"] for row in table] == [row.key for row in stored]
    assert [json.loads(row["data"]) for row in table] == [row.data for row in stored]
    assert [json.loads(row["prediction"]) for row in table] == [row.prediction for row in stored]
    assert [[box["x1"] for box in row["boxes"]] for row in table] == [
        [box.box_xyxy[2] for box in row.boxes] for row in stored
    ]
    before = {path: path.stat().st_mtime_ns for path in (out / "parquet").iterdir()}
    export(out, ALL, LABELS, None)
    assert {path: path.stat().st_mtime_ns for path in (out / "parquet").iterdir()} == before


def test_tasks_with_several_pictures_keep_them_apart(tmp_path: Path) -> None:
    for name, size in (("a.png", (40, 40)), ("b.png", (80, 60))):
        (tmp_path / name).write_bytes(encoded(size))
    config = (
        '<View><Image name="one" value="$first"/><Image name="two" valueList="$more"/>'
        '<RectangleLabels name="x" toName="one"><Label value="cat"/></RectangleLabels>'
        '<Rectangle name="r" toName="two"/><Labels name="y" toName="two"><Label value="dog"/>'
        "</Labels></View>"
    )
    task = {"first": "a.png", "more": ["b.png", "a.png"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(task))
    predictor = counting_predictor(base=tmp_path, search=Search(config))
    annotate(TaskFileSource(tmp_path / "t.jsonl"), tmp_path / "out", predictor)
    [row] = rows(tmp_path / "out")
    assert [picture.wh for picture in row.pictures] == [(40, 40), (80, 60), (40, 40)]
    assert {(box.picture, box.label) for box in row.boxes} == {(0, "cat"), (1, "dog"), (2, "dog")}
    parsed = parse_labeling_config(config, 10)
    assert len(parsed.images) == 2
    export(tmp_path / "out", (Format.COCO, Format.YOLO), ("cat", "dog"), None)
    instances = json.loads((tmp_path / "out/coco/instances.json").read_text())
    assert [each["file_name"] for each in instances["images"]] == ["a.png", "b.png", "a.png"]


def test_boxes_without_a_label_have_the_category_of_their_phrase(tmp_path: Path) -> None:
    value = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0, "rotation": 0}
    region = {"id": "r", "to_name": "image", "type": "rectanglelabels", "score": 0.5}
    region |= {"value": value, "meta": {"text": ["zebra"]}}
    meta = {"input": "a.png", "pictures": [asdict(RowPicture("image", None, (200, 100), "a.png"))]}
    row = {"data": {}, "predictions": [{"result": [region]}], "meta": {"prelabel": meta}}
    write_coco([read_line(json.dumps(row).encode())], LABELS, tmp_path / "instances.json")
    instances = json.loads((tmp_path / "instances.json").read_text())
    assert [each["name"] for each in instances["categories"]] == ["cat", "dog", "zebra"]
    [annotation] = instances["annotations"]
    assert (annotation["category_id"], annotation["bbox"]) == (3, [20.0, 20.0, 60.0, 40.0])


def test_an_export_without_room_says_so(annotated: tuple[Path, list[TaskRow]]) -> None:
    out, _ = annotated
    (out / "coco").mkdir()
    (out / "coco/.instances.json.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        export(out, (Format.COCO,), LABELS, None)
