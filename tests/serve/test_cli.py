"""`prelabel` as a user runs it, against the running service."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.paths import ROOT
from tests.support.scenes import encoded, scene
from tests.support.service_client import PASSWORD, USER, Service

PRELABEL = Path(sys.executable).with_name("prelabel")


def prelabel(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PRELABEL, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        **options,
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    path.write_bytes(encoded(scene()))
    return path


def test_a_negative_is_no_label(service: Service, picture: Path) -> None:
    prompt = ("--prompt", "red circle . -blue square")
    done = prelabel("predict", picture, *prompt, "--url", service.url)
    assert done.returncode == 0, done.stderr
    prediction = json.loads(picture.with_name("scene_prelabel.json").read_text())
    assert [r["value"]["rectanglelabels"] for r in prediction["result"]] == [["red circle"]]


def test_predict_writes_the_drawn_picture_and_the_json(service: Service, picture: Path) -> None:
    done = prelabel(
        "predict", picture, "--prompt", "red circle . blue square", "--url", service.url
    )
    assert done.returncode == 0, done.stderr
    assert "red circle 0." in done.stdout
    prediction = json.loads(picture.with_name("scene_prelabel.json").read_text())
    found = {label for r in prediction["result"] for label in r["value"]["rectanglelabels"]}
    assert found == {"red circle", "blue square"}
    drawn = Image.open(picture.with_name("scene_prelabel.png"))
    assert drawn.size == (640, 480)
    assert drawn.convert("RGB").tobytes() != scene().tobytes()
    assert picture.read_bytes() == encoded(scene())


def test_predict_keeps_the_labels_that_are_asked_for(service: Service, picture: Path) -> None:
    prompt = ("--prompt", "red circle . blue square", "--labels", "blue square")
    done = prelabel("predict", picture, *prompt, "--url", service.url)
    assert "blue square 0." in done.stdout
    assert "red circle 0." not in done.stdout


def test_predict_passes_thresholds_on(service: Service, picture: Path) -> None:
    prompt = ("--prompt", "red circle", "--box-threshold", "1")
    done = prelabel("predict", picture, *prompt, "--url", service.url)
    assert done.returncode == 0
    assert "0 boxes" in done.stdout


def test_predict_says_what_to_do_about_basic_auth(guarded: Service, picture: Path) -> None:
    asked = ("predict", picture, "--prompt", "red circle", "--url", guarded.url)
    refused = prelabel(*asked)
    assert refused.returncode == 1
    assert "Set BASIC_AUTH_USER and BASIC_AUTH_PASS" in refused.stderr
    let_in = prelabel(*asked, "--user", USER, "--password", PASSWORD)
    assert let_in.returncode == 0


def test_predict_shows_a_task_s_error_as_a_sentence(service: Service, picture: Path) -> None:
    done = prelabel("predict", picture, "--prompt", "猫", "--url", service.url)
    assert done.returncode == 1
    assert done.stderr.startswith("prelabel: The model's vocabulary has no word of '猫'")
    assert "Traceback" not in done.stderr
