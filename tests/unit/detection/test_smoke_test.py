"""The smoke test of an engine before its first request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from deployments.detector import Detector
from deployments.placement import DetectorPlace
from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.detection.smoke_test import check_engine
from prelabel.engines import load_engine
from prelabel.errors import DetectionError, DeviceMemoryError, ModelError
from prelabel.settings import AppSettings
from prelabel.types import Floats, RawDetections

BOXES = np.tile(np.array([[0.1, 0.1, 0.5, 0.5]], np.float32), (3, 1))
SCORES = np.array([[0.9], [0.4], [0.0]], np.float32)
GOOD = RawDetections(BOXES, SCORES, SCORES, 0)


@dataclass(frozen=True)
class Item:
    bucket: int = 0


class Engine:
    """Answers what it was given, or raises it."""

    runs_on = "a test, float32"

    def __init__(self, *answers: RawDetections | Exception) -> None:
        self._answers = answers

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw

    def prepare(self, image: Any, phrases: Any) -> list[Item]:
        assert image.dtype == np.uint8
        assert len(phrases) == 1
        return [Item()]

    def detect(self, items: Any) -> list[Any]:
        assert len(items) == 1
        for answer in self._answers:
            if isinstance(answer, Exception):
                raise answer
        return list(self._answers)


def spoilt(array: Floats, value: float) -> Floats:
    copy = array.copy()
    copy[1, 0] = value
    return copy


def test_a_good_engine_is_described() -> None:
    said = str(check_engine(Engine(GOOD), "demo"))
    assert said.startswith("a pass on a test, float32 took 0.")
    assert "3 boxes, all numbers finite, best score 0.90" in said


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (Engine(replace(GOOD, boxes_xyxy_norm=spoilt(BOXES, np.nan))), "precision to float32"),
        (Engine(replace(GOOD, phrase_max=spoilt(SCORES, np.inf))), "precision to float32"),
        (Engine(replace(GOOD, phrase_mean=spoilt(SCORES, np.nan))), "precision to float32"),
        (Engine(replace(GOOD, phrase_max=spoilt(SCORES, 1.5))), "not between 0 and 1"),
        (Engine(replace(GOOD, phrase_max=spoilt(SCORES, -0.5))), "not between 0 and 1"),
        (Engine(replace(GOOD, boxes_xyxy_norm=BOXES[:2])), "download"),
        (Engine(replace(GOOD, boxes_xyxy_norm=BOXES[:, :3])), "download"),
        (Engine(replace(GOOD, phrase_max=np.hstack([SCORES, SCORES]))), "download"),
        (Engine(RawDetections(BOXES[:0], SCORES[:0], SCORES[:0], 0)), "download"),
        (Engine(), "0 results for one picture"),
        (Engine(GOOD, GOOD), "2 results for one picture"),
        (Engine(DetectionError("No numbers. Set this.")), "No numbers. Set this."),
        (Engine(DeviceMemoryError("Too small. Take another.")), "Too small. Take another."),
        (Engine(RuntimeError("CUDA error at /a/path")), "RuntimeError"),
    ],
)
def test_what_is_wrong_with_a_broken_one_is_said_with_what_to_do(engine: Engine, says: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_engine(engine, "demo")
    assert str(raised.value).startswith("The model demo ")
    assert "a test, float32" in str(raised.value)
    assert says in str(raised.value)
    assert "/a/path" not in str(raised.value)


def detector(load: Callable[..., Any]) -> Detector:
    place = DetectorPlace("cpu", {})
    return Detector(AppSettings(), load_card("demo"), place, load, cpu_threads=lambda: 2)


def test_a_detector_whose_engine_is_broken_does_not_start() -> None:
    broken = Engine(replace(GOOD, phrase_max=spoilt(SCORES, np.nan)))
    with pytest.raises(ModelError, match="computed NaN"):
        detector(lambda *_, **__: broken)


def test_a_detector_says_once_what_it_found() -> None:
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    serve_log = logging.getLogger("ray.serve")
    listener = Listener()
    serve_log.addHandler(listener)
    try:
        detector(lambda *_, **__: Engine(GOOD))
    finally:
        serve_log.removeHandler(listener)
    [line] = lines
    assert line.startswith("demo is ready: a pass on a test, float32 took ")


def test_the_demo_model_works_here_and_names_its_device() -> None:
    card = load_card("demo")
    engine = load_engine(card, model_folder(card, "models"), device="cpu", precision="float32")
    verdict = check_engine(engine, "demo")
    assert verdict.runs_on == "cpu, float32"
    assert verdict.best_score > 0.3
    assert verdict.boxes > 1
