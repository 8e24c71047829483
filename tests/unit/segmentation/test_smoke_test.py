"""The smoke test of a segmenter before its first request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from prelabel.checkpoints.cards import load_segmenter_card, model_folder
from prelabel.engines import load_segmenter
from prelabel.errors import DetectionError, ModelError
from prelabel.segmentation.smoke_test import check_segmenter
from prelabel.types import MaskLogits

GOOD = MaskLogits(
    logits=np.ones((3, 4), np.float16),
    origin_xy=(0, 0),
    cells_wh=(64.0, 48.0),
    view_xyxy=(0, 0, 640, 480),
    clip_xyxy=None,
    quality=0.9,
)


class Encoding:
    nbytes = 2_000_000


class Engine:
    """Answers what it was given, or raises it."""

    runs_on = "a test, float32"

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw

    def prepare(self, image: Any) -> Any:
        assert image.dtype == np.uint8
        return image

    def encode(self, items: Any) -> list[Any]:
        return [Encoding() for _ in items]

    def decode(self, jobs: Any) -> list[Any]:
        [(_, prompts)] = jobs
        assert len(prompts) == 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return [self._answer]


def test_a_good_mask_is_a_sentence() -> None:
    sentence = str(check_segmenter(Engine((GOOD,)), "sam"))
    assert sentence.startswith("a picture and a mask on a test, float32 took 0.0")
    assert sentence.endswith("all numbers finite, encoding 2.0 MB, quality 0.90")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((), "it gave [0] masks for one box"),
        ((GOOD, GOOD), "it gave [2] masks for one box"),
        ((replace(GOOD, logits=np.ones(3, np.float16)),), "its mask has the shape (3,)"),
        ((replace(GOOD, logits=np.ones((0, 3), np.float16)),), "its mask has the shape (0, 3)"),
        ((replace(GOOD, logits=np.full((2, 2), np.nan)),), "NaN or infinite numbers"),
        ((replace(GOOD, quality=np.inf),), "NaN or infinite numbers"),
        ((replace(GOOD, quality=1.5),), "its quality 1.5 is not between 0 and 1"),
        (DetectionError("It broke."), "does not work on a test, float32. It broke."),
        (RuntimeError("mkl"), "fails on a test, float32 with a RuntimeError"),
    ],
)
def test_a_fault_is_a_sentence(answer: Any, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_segmenter(Engine(answer), "sam")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("The segmenter sam ")


def test_the_embedded_segmenter_passes() -> None:
    card = load_segmenter_card("demo-segmenter")
    engine = load_segmenter(
        card, model_folder(card, "models"), device="cpu", precision="auto", cpu_threads=1
    )
    result = check_segmenter(engine, card.name)
    assert result.runs_on == "cpu, float32"
    assert result.quality > 0.8
