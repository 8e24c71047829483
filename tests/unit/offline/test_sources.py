"""Folders and files of tasks, with what is wrong in them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from prelabel.errors import ImageFetchError, LabelingConfigError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.task_rows import boxes_config
from prelabel.offline.folders import FolderSource, read_file
from prelabel.offline.items import InputError, Item
from prelabel.offline.sources import open_input
from prelabel.offline.task_files import TaskFileSource
from tests.support.counting_engine import encoded
from tests.support.offline import ADDRESS

CONFIG = parse_labeling_config(boxes_config(["cat"]), 100)


def items_of(folder: Path) -> dict[str, Item]:
    return {item.key: item for item in FolderSource(folder, ADDRESS).items()}


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded())


def test_a_folder_is_read_in_order_with_its_folders(tmp_path: Path) -> None:
    touch(tmp_path / "b/2.JPG", tmp_path / "b/1.png", tmp_path / "a.webp", tmp_path / "c.tiff")
    touch(tmp_path / "notes.txt", tmp_path / ".hidden.png", tmp_path / ".git/x.png")
    assert list(items_of(tmp_path)) == ["a.webp", "b/1.png", "b/2.JPG", "c.tiff"]


def test_names_with_spaces_and_percents_are_quoted_in_addresses(tmp_path: Path) -> None:
    touch(tmp_path / "a b%20c?#é.png")
    [item] = items_of(tmp_path).values()
    assert item.key == "a b%20c?#é.png"
    assert item.data == {"image": "/data/local-files/?d=photos/a%20b%2520c%3F%23%C3%A9.png"}
    assert item.place is not None
    assert read_file(item.place, 10**6) == encoded()


def test_a_name_that_is_not_utf_8_is_a_fault(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png"))).write_bytes(encoded())
    touch(tmp_path / "good.png")
    items = items_of(tmp_path)
    assert items["good.png"].fault is None
    assert "not UTF-8" in str(items["bad\\xff.png"].fault)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "photos/a.png", tmp_path / "other/b.png")
    (tmp_path / "photos/loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/itself").symlink_to(tmp_path / "photos/itself")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "other")
    (tmp_path / "photos/gone.png").symlink_to(tmp_path / "gone.png")
    assert list(items_of(tmp_path / "photos")) == ["a.png", "gone.png", "linked/b.png"]
    with pytest.raises(ImageFetchError, match="No such file"):
        read_file(str(tmp_path / "photos/gone.png"), 10)


def test_pipes_folders_and_large_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageFetchError, match="is not a file"):
        read_file(str(tmp_path / "pipe.png"), 10)
    touch(tmp_path / "large.png")
    with pytest.raises(ImageFetchError, match="larger than 10 bytes"):
        read_file(str(tmp_path / "large.png"), 10)
    with pytest.raises(ImageFetchError, match="is not one of a file"):
        read_file("a\0b", 10)


def test_every_line_of_a_file_is_a_task_or_a_fault(tmp_path: Path) -> None:
    task = {"data": {"image": "a.png"}, "id": 7, "meta": {"shop": 3}, "predictions": [1]}
    lines = [
        json.dumps(task).encode(),
        b"",
        b'{"image": "b.png", "n": 1}',
        b"{broken",
        b"[1, 2]",
        b'{"n": 1, "image": "b.png"}',
        b'{"image": NaN}',
        b'{"image": "\\udcff"}',
        b'{"data": 5, "id": 3}',
        b"\xff\xfe",
        b'{"image": "last.png"}',
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b"\n".join(lines))
    items = list(TaskFileSource(path).items())
    good = [item for item in items if item.fault is None]
    assert [item.data.get("image") for item in good] == ["a.png", "b.png", "b.png", "last.png"]
    assert good[0].more == {"meta": {"shop": 3}}
    assert good[1].key == good[2].key  # the order of the fields does not matter
    faults = {item.key for item in items if item.fault}
    assert faults == {"line 4", "line 5", "line 7", "line 8", "line 9", "line 10"}


def test_json_and_parquet_have_the_same_tasks(tmp_path: Path) -> None:
    data = [{"image": "a.png", "n": 1}, {"image": "b.png", "n": 2}]
    (tmp_path / "t.json").write_text(json.dumps([{"data": each} for each in data]))
    (tmp_path / "one.json").write_text(json.dumps(data[0]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(data), tmp_path / "t.parquet")
    texts = pyarrow.table({"data": [json.dumps(each) for each in data]})
    pyarrow.parquet.write_table(texts, tmp_path / "texts.parquet")
    listed = [list(TaskFileSource(path).items()) for path in sorted(tmp_path.glob("t*"))]
    assert listed[0] == listed[1] == listed[2]
    assert [item.data for item in listed[0]] == data
    assert list(TaskFileSource(tmp_path / "one.json").items()) == listed[0][:1]


def test_files_that_are_no_tasks_say_so(tmp_path: Path) -> None:
    for name, content in (("x.json", b"{"), ("x.parquet", b"no")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="x\\."):
            list(TaskFileSource(tmp_path / name).items())
    with pytest.raises(InputError, match="There is no"):
        open_input(str(tmp_path / "nothing"), CONFIG, None)
    (tmp_path / "x.csv").write_text("image")
    with pytest.raises(InputError, match="no folder"):
        open_input(str(tmp_path / "x.csv"), CONFIG, None)


def test_addresses_follow_from_the_kind_of_input(tmp_path: Path) -> None:
    touch(tmp_path / "my photos/a.png")
    found = open_input(str(tmp_path / "my photos"), CONFIG, None)
    [item] = found.source.items()
    assert item.data == {"image": "/data/local-files/?d=my%20photos/a.png"}
    found = open_input(str(tmp_path / "my photos"), CONFIG, "https://cdn.example.com/")
    [item] = found.source.items()
    assert item.data == {"image": "https://cdn.example.com/a.png"}
    assert open_input("s3://photos/2024/", CONFIG, None).prefix == "s3://photos/2024/"


def test_the_field_is_that_of_the_config(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    boxes = '<RectangleLabels name="l" toName="i"><Label value="x"/></RectangleLabels>'
    listed = parse_labeling_config(f'<View><Image name="i" valueList="$shots"/>{boxes}</View>', 9)
    [item] = open_input(str(tmp_path), listed, "").source.items()
    assert item.data == {"shots": ["a.png"]}
    odd = parse_labeling_config(f'<View><Image name="i" value="$a.b"/>{boxes}</View>', 9)
    with pytest.raises(LabelingConfigError, match="name of one field"):
        open_input(str(tmp_path), odd, None)
    two = f'<View><Image name="i" value="$a"/><Image name="j" value="$b"/>{boxes}'
    two += f"{boxes.replace(chr(34) + 'i' + chr(34), chr(34) + 'j' + chr(34)).replace('l', 'l', 1)}"
    two = two.replace('name="l" toName="j"', 'name="m" toName="j"') + "</View>"
    with pytest.raises(LabelingConfigError, match="several Image tags"):
        open_input(str(tmp_path), parse_labeling_config(two, 9), None)
