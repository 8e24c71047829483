"""One pass over a picture made on the spot, before a detector takes any other.

What a model computes on a device and in a number format that nobody tried is not known before; a
replica that does not start keeps the one before it serving. The pass warms the model up as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from prelabel.engines.base import USUAL_PICTURES_HW, AnyEngine
from prelabel.errors import ModelError, PrelabelError
from prelabel.types import ImageRGB, RawDetections

_PHRASE = "red square"


@dataclass(frozen=True, slots=True)
class Verdict:
    """runs_on: device and number format, as far as the engine says; seconds: of the pass; boxes:
    how many the model proposed; best_score: of them.
    """

    runs_on: str
    seconds: float
    boxes: int
    best_score: float

    def __str__(self) -> str:
        return (
            f"on {self.runs_on} a pass took {self.seconds:.2f} s, {self.boxes} boxes came as "
            f"finite numbers, the best with score {self.best_score:.2f}"
        )


def check_engine(engine: AnyEngine, model: str) -> Verdict:
    """What a pass says of an engine. model: its name, for the sentence.

    Raises ModelError where it fails, or answers what is no answer.
    """
    runs_on = str(getattr(engine, "runs_on", "a device that it does not name"))
    began = time.monotonic()
    try:
        answers = engine.detect(engine.prepare(_picture(), (_PHRASE,)))
    except PrelabelError as error:
        raise ModelError(f"The model {model} does not work on {runs_on}. {error}") from error
    except Exception as error:  # the edge: what an engine raises keeps the replica from starting
        raise ModelError(
            f"The model {model} fails on {runs_on} with a {type(error).__name__}; the service's "
            "log says why. Set the precision to float32, or the device to cpu."
        ) from error
    seconds = time.monotonic() - began
    fault = _fault(answers)
    if fault:
        raise ModelError(f"The model {model} does not work on {runs_on}: {fault}")
    [answer] = answers
    best = float(answer.phrase_max.max(initial=0))
    return Verdict(runs_on, seconds, len(answer.boxes_xyxy_norm), best)


def _picture() -> ImageRGB:
    """A red square on grey, of the size that comes most."""
    image: ImageRGB = np.full((*USUAL_PICTURES_HW[0], 3), 150, dtype=np.uint8)
    image[120:360, 200:440] = (215, 30, 30)
    return image


def _fault(answers: list[RawDetections]) -> str:
    """What is wrong with the answers to one picture, and what to do; empty where nothing is."""
    if len(answers) != 1:
        return f"it gave {len(answers)} answers for one picture. {_AGAIN}"
    [answer] = answers
    numbers = (answer.boxes_xyxy_norm, answer.phrase_max, answer.phrase_mean)
    boxes = len(answer.boxes_xyxy_norm)
    shapes = [array.shape for array in numbers]
    if boxes == 0 or shapes != [(boxes, 4), (boxes, 1), (boxes, 1)]:
        return f"its answer has the shapes {shapes}. {_AGAIN}"
    if not all(np.isfinite(array).all() for array in numbers):
        return "it computed no numbers. Set the precision to float32."
    if answer.phrase_max.min() < 0 or answer.phrase_max.max() > 1:
        return f"its scores are not between 0 and 1. {_AGAIN}"
    return ""


_AGAIN = "Its files do not fit this version of the service: `prelabel download` them again."
