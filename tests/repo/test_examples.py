import json
from typing import Any

import pytest
from PIL import Image

from prelabel.images.decode import decode_image
from prelabel.prompts.parser import split_prompt
from tests.support.paths import ROOT

DEMO = ROOT / "examples" / "demo"
CASES = json.loads((DEMO / "cases.json").read_text())


def test_there_are_thirteen_pictures_and_many_boxes() -> None:
    pictures = {path.name for path in DEMO.iterdir() if path.suffix in (".jpg", ".png")}
    pictures -= {
        path.name for path in DEMO.glob("*_prelabel.png")
    }  # results of the README's command
    assert {case["image"] for case in CASES} == pictures
    assert len(CASES) == 13
    assert sum(len(case["boxes"]) for case in CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["image"])
def test_a_case_is_consistent_with_itself_and_its_picture(case: dict[str, Any]) -> None:
    height, width, _ = decode_image((DEMO / case["image"]).read_bytes(), max_pixels=10**6).shape
    assert 0.5 <= width / height <= 2
    assert [each.phrase for each in split_prompt(case["prompt"], 1000)] == case["labels"]
    for box in case["boxes"]:
        assert box["label"] in case["labels"]
        assert min(box["x"], box["y"]) >= 0
        assert min(box["width"], box["height"]) > 5
        assert max(box["x"] + box["width"], box["y"] + box["height"]) <= 100


def test_one_picture_is_stored_lying_so_that_orientation_is_tested() -> None:
    meadow = DEMO / "meadow.jpg"
    with Image.open(meadow) as stored:
        assert stored.size == (600, 480)
    assert decode_image(meadow.read_bytes(), max_pixels=10**6).shape[:2] == (600, 480)


def test_every_drawing_is_credited() -> None:
    credit = (DEMO / "ATTRIBUTION.md").read_text()
    names = ("OpenMoji", "CC BY-SA 4.0", "EmojiOne", "CC BY 4.0", "Firefox OS Emoji")
    assert all(name in credit for name in names)
