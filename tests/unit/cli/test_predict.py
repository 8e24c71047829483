"""`prelabel predict` on pictures and folders, against a service in this process."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from prelabel.cli.picture_files import PictureFile, ResultPaths, find_pictures
from prelabel.settings import Environment
from tests.support.http_server import Exchange, Received, serve
from tests.support.local_service import LocalService, running
from tests.support.paths import ROOT

PRELABEL = Path(sys.executable).with_name("prelabel")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(LocalService(Environment())) as address:
        yield address


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four pictures in two folders, with other files between them."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "deep/b.png", "deep/B.JPG"):
        Image.new("RGB", (200, 100), "red").save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "c_prelabel.png").write_bytes(b"an earlier drawing")
    return folder


def prelabel(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [PRELABEL, *map(str, arguments)],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# Which pictures, and where their results go -----------------------------------------------------


def test_a_folder_stands_for_the_pictures_below_it(photos: Path) -> None:
    found = find_pictures([photos, photos / "a.jpg"])
    names = [str(each.path.relative_to(photos)) for each in found.pictures]
    assert names == ["a.jpg", "a.png", "deep/B.JPG", "deep/b.png"]
    assert found.others == 1
    assert found.faults == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_a_fault(photos: Path) -> None:
    (photos / "deep").chmod(0)
    found = find_pictures([photos])
    (photos / "deep").chmod(stat.S_IRWXU)
    assert [path.name for path, _ in found.faults] == ["deep"]


def test_results_lie_beside_the_pictures_and_none_replaces_another(photos: Path) -> None:
    paths = ResultPaths(None)
    found = [paths.of(each).drawing.name for each in find_pictures([photos]).pictures]
    assert found == ["a_prelabel.png", "a.png_prelabel.png", "B_prelabel.png", "b_prelabel.png"]


def test_an_output_folder_has_the_folders_of_the_input(photos: Path) -> None:
    paths = ResultPaths(Path("out"))
    results = [paths.of(each) for each in find_pictures([photos, photos / "deep"]).pictures]
    assert [str(each.drawing) for each in results][2:] == [
        "out/deep/B_prelabel.png",
        "out/deep/b_prelabel.png",
    ]
    assert results[0].json == Path("out/a_prelabel.json")


def test_an_output_with_a_picture_s_name_is_a_file(tmp_path: Path) -> None:
    picture = PictureFile(tmp_path / "a.jpg")
    results = ResultPaths(tmp_path / "drawn.webp").of(picture)
    assert results.drawing == tmp_path / "drawn.webp"
    assert results.json == tmp_path / "a_prelabel.json"


# The command ------------------------------------------------------------------------------------


def test_one_picture_that_fails_does_not_cost_the_others(url: str, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"not a picture")
    out = photos.parent / "out"
    done = prelabel("predict", photos, "--prompt", "cat", "--url", url, "--output", out)
    assert done.returncode == 3, done.stderr
    assert "broken.jpg: " in done.stderr
    lines = done.stdout.splitlines()
    assert f"{photos}/a.jpg: 1 box: 1 cat" in lines
    assert "4 pictures, 4 boxes (4 cat), 1 failed." in lines
    assert "1 file is no picture by name, and left out." in lines
    drawn = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert drawn == [
        "a.png_prelabel.png",
        "a_prelabel.png",
        "deep/B_prelabel.png",
        "deep/b_prelabel.png",
    ]
    again = prelabel("predict", photos / "a.jpg", photos / "a.png", "--prompt", "cat", "--url", url)
    assert again.returncode == 0
    assert (photos / "a_prelabel.json").is_file()


def test_predictions_are_lines_of_json_on_the_standard_output(url: str, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"not a picture")
    done = prelabel("predict", photos, "--prompt", "cat", "--url", url, "--json", "-")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(each["picture"]).name for each in found] == [
        "a.jpg",
        "a.png",
        "broken.jpg",
        "B.JPG",
        "b.png",
    ]
    assert found[2].keys() == {"picture", "error"}
    assert found[0].keys() == {"picture", "drawing", "prediction"}
    assert Path(found[0]["drawing"]).is_file()
    assert len(found[0]["prediction"]["result"]) == 1
    assert not list(photos.rglob("*.json"))


def test_a_name_that_is_not_utf_8_is_printed_with_its_bytes(url: str, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), "red").save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    done = prelabel("predict", tmp_path, "--prompt", "cat", "--url", url)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/\\xff.png: 1 box: 1 cat" in done.stdout
    done = prelabel("predict", tmp_path, "--prompt", "cat", "--url", url, "--json", "-")
    assert json.loads(done.stdout)["picture"] == f"{tmp_path}/\\xff.png"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--json", "all.json"), "--json FILE is for one picture."),
        (("--output", "all.png"), "Give a folder"),
    ],
)
def test_a_file_for_several_pictures_is_wrong_usage(
    photos: Path, options: tuple[str, str], sentence: str
) -> None:
    done = prelabel("predict", photos, "--prompt", "cat", *options)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.replace("│", " ").split())


def test_a_service_that_is_away_is_one_error(photos: Path) -> None:
    address = ("--url", "http://127.0.0.1:9", "--wait", "0")
    done = prelabel("predict", photos, "--prompt", "cat", *address)
    assert done.returncode == 1
    assert done.stderr.count("No service answers") == 1
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_written_is_a_sentence(url: str, photos: Path) -> None:
    (photos / "taken").write_text("a file")
    output = photos / "taken" / "drawn.png"
    done = prelabel(
        "predict", photos / "a.jpg", "--prompt", "cat", "--url", url, "--output", output
    )
    assert done.returncode == 1
    assert done.stderr.startswith("prelabel: Cannot write ")
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_run_at_once(photos: Path) -> None:
    asked, closing = threading.Event(), threading.Event()

    def respond(exchange: Exchange, received: Received) -> None:
        asked.set()
        closing.wait(60)
        exchange.answer(503)

    with serve(respond) as server:
        address = ("--url", server.url, "--wait", "0")
        process = subprocess.Popen(
            [PRELABEL, "predict", photos, "--prompt", "cat", *address],
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        closing.set()
    assert process.returncode == 130
    assert said == "Stopped: 0 of 4 pictures are done.\n"


def test_the_result_is_opened_on_request_and_on_a_display_only(url: str, photos: Path) -> None:
    programs = photos.parent / "programs"
    programs.mkdir()
    opened = programs / "opened"
    (programs / "xdg-open").write_text(f'#!/bin/sh\necho "$@" >> {opened}\n')
    (programs / "xdg-open").chmod(0o755)
    path = f"{programs}:{os.defpath}"
    picture = photos / "a.jpg"
    asked = ("predict", picture, "--prompt", "cat", "--url", url)
    prelabel(*asked, PATH=path, DISPLAY=":9")
    assert not opened.exists()
    headless = prelabel(*asked, "--open", PATH=path)
    assert (headless.returncode, opened.exists()) == (0, False)
    assert "There is no display" in headless.stderr
    prelabel(*asked, "--open", PATH=path, WAYLAND_DISPLAY="wayland-0")
    assert opened.read_text().split() == [str(photos / "a_prelabel.png")]
