import re
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface
from PIL import Image

from prelabel.labelstudio.interactive_request import labeling_config, prompt_request
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import PredictRequest
from prelabel.labelstudio.result_entries import PromptControls, prompt_request_of
from prelabel.service import Readiness
from prelabel.settings import DetectionSettings, Environment
from prelabel.types import PromptRequest
from tests.support.local_service import LocalService, running

pytestmark = pytest.mark.slow

PRELABEL = Path(sys.executable).with_name("prelabel")


def prelabel(*arguments: Path | float | str) -> CompletedProcess[str]:
    return subprocess.run(
        [PRELABEL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(path)
    return path


@pytest.mark.parametrize("label", ["cat", 'a "quoted" <word>', "R&D", "Straße"])
def test_any_word_becomes_a_label_of_a_valid_config(label: str) -> None:
    xml = labeling_config([label])
    LabelInterface(xml).validate()  # type: ignore[no-untyped-call]
    [control] = parse_labeling_config(xml, 10).controls
    assert control.labels[0].value == label


def test_the_request_is_what_the_page_would_send() -> None:
    thresholds = {"box_threshold": 0.0, "text_threshold": None}
    request = PredictRequest.model_validate(prompt_request(b"x", "cat . dog", ["cat"], thresholds))
    assert request.context is not None
    assert prompt_request_of(request.context.result, PromptControls()) == PromptRequest(
        "cat . dog", 0.0, None
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("download", "nope"), "no model named 'nope'"),
        (("preflight", "nowhere.yaml"), "no file nowhere.yaml"),
        (("predict", "nowhere.png", "--prompt", "cat"), "Cannot read nowhere.png"),
        (("predict", __file__, "--prompt", "cat"), "not a readable JPEG"),
        (("predict", __file__, "--prompt", "not: dog"), "names nothing to look for"),
    ],
)
def test_an_error_is_a_sentence_and_status_1(arguments: tuple[Any, ...], sentence: str) -> None:
    done = prelabel(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("prelabel: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wait", [0, 0.1])
def test_without_a_service_the_command_that_starts_it_is_named(picture: Path, wait: float) -> None:
    url = "http://127.0.0.1:9"
    done = prelabel("predict", picture, "--prompt", "cat", "--url", url, "--wait", wait)
    assert done.returncode == 1
    *waiting, last = done.stderr.splitlines()
    assert "Start it with `make serve`" in last
    expected = f"Waiting for the service at {url} to start, for up to 0.1 s ..."
    assert waiting == ([expected] if wait else [])


def test_predict_waits_for_a_service_that_is_starting(picture: Path) -> None:
    class Loading(LocalService):
        asked = 0

        async def readiness(self) -> Readiness:
            self.asked += 1
            return (
                Readiness("STARTING", ready=False)
                if self.asked < 3
                else Readiness("UP", ready=True)
            )

    with running(Loading(Environment())) as url:
        done = prelabel("predict", picture, "--prompt", "cat", "--url", url)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"Waiting for the service at {url} to start, for up to 60 s ..."
    ]
    assert "1 box: " in done.stdout


def test_the_picture_itself_is_never_replaced(picture: Path) -> None:
    done = prelabel("predict", picture, "--prompt", "cat", "--output", picture)
    assert done.returncode == 1
    assert "Choose another --output" in done.stderr


def test_models_lists_the_shipped_cards(tmp_path: Path) -> None:
    listed = prelabel("models", "--models-dir", tmp_path).stdout
    detectors, _, segmenters = listed.partition("segmenter ")
    for name in ("demo", "grounding-dino-swin-t", "grounding-dino-swin-b", "llmdet-tiny"):
        assert name in detectors
    for name in ("demo-segmenter", "slimsam-77", "sam2.1-hiera-tiny"):
        assert name in segmenters
    [embedded] = [line for line in segmenters.splitlines() if "demo-segmenter" in line]
    assert "yes" in embedded


def number_after(option: str, text: str) -> int:
    found = re.search(rf"{option}: (\d+)", text)
    assert found is not None, text
    return int(found[1])


def test_calibrate_proposes_what_the_config_takes() -> None:
    done = prelabel("calibrate", "demo", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert re.search(r"640x480 as 256x192: a batch of n takes \d+ \+ \d+ n ms", done.stdout)
    proposed = number_after("max_batch_size", done.stdout)
    assert DetectionSettings(max_batch_size=proposed).max_batch_size == proposed
    target = number_after("target_ongoing_requests", done.stdout)
    assert proposed < target


def test_calibrate_says_what_a_missing_model_needs(tmp_path: Path) -> None:
    done = prelabel("calibrate", "grounding-dino-swin-t", "--models-dir", tmp_path)
    assert done.returncode == 1
    assert "prelabel download grounding-dino-swin-t" in done.stderr


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, prelabel.cli.main; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
