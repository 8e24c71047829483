"""Smoke test of an engine: one forward pass over a synthetic picture when a detector starts.

A model may fail, or compute NaN, on a device or in a number format on which it was never run. A
replica that fails its start is not put into service, and the replica before it keeps serving. The
pass warms the model up as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from prelabel.engines.base import USUAL_PICTURES_HW, AnyEngine
from prelabel.errors import ModelError, PrelabelError
from prelabel.types import ImageRGB, RawDetections

SQUARE_XYXY = (200, 120, 440, 360)  # drawn in `square_picture`
_PHRASE = "red square"  # the demo model knows it as well
DOWNLOAD_AGAIN = (
    "Its files do not fit this version of the service: run `prelabel download` for it again."
)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class SmokeTestResult:
    """Facts of a successful pass, printed as a sentence for the log.

    Attributes:
        runs_on: Device and number format, as the engine names them.
        seconds: Duration of preparation and forward pass together.
        boxes: Number of boxes that the model proposed.
        best_score: Greatest score among these boxes.
    """

    runs_on: str
    seconds: float
    boxes: int
    best_score: float

    def __str__(self) -> str:
        return (
            f"a pass on {self.runs_on} took {self.seconds:.2f} s and gave {self.boxes} boxes, "
            f"all numbers finite, best score {self.best_score:.2f}"
        )


def check_engine(engine: AnyEngine, model: str) -> SmokeTestResult:
    """Run one pass and check the result.

    Args:
        engine: The engine to test.
        model: Name of the model, for the error message.

    Raises:
        ModelError: The pass failed, or its result has a wrong shape or numbers out of range.
    """
    results, run = attempt(
        engine,
        f"model {model}",
        lambda: engine.detect(engine.prepare(square_picture(), (_PHRASE,))),
    )
    run.check(_fault(results))
    [result] = results
    best = float(result.phrase_max.max(initial=0))
    return SmokeTestResult(run.runs_on, run.seconds, len(result.boxes_xyxy_norm), best)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A pass that did not raise.

    Attributes:
        subject: "model" or "segmenter" and its name, for error messages.
        runs_on: Device and number format, as the engine names them.
        seconds: Duration of the pass.
    """

    subject: str
    runs_on: str
    seconds: float

    def check(self, fault: str) -> None:
        """Raise ModelError for a fault in the results; empty if there is none."""
        if fault:
            raise ModelError(f"The {self.subject} does not work on {self.runs_on}: {fault}")


def attempt(engine: object, subject: str, work: Callable[[], ResultT]) -> tuple[ResultT, Attempt]:
    """Run one pass of an engine. Return its results and the facts of the pass.

    Raises:
        ModelError: The pass failed.
    """
    runs_on = str(getattr(engine, "runs_on", "an unnamed device"))
    started = time.monotonic()
    try:
        results = work()
    except PrelabelError as error:
        raise ModelError(f"The {subject} does not work on {runs_on}. {error}") from error
    except Exception as error:  # the edge: any error of an engine keeps the replica from starting
        raise ModelError(
            f"The {subject} fails on {runs_on} with a {type(error).__name__}; the service's "
            "log has the cause. Set model.precision to float32, or model.device to cpu."
        ) from error
    return results, Attempt(subject, runs_on, time.monotonic() - started)


def square_picture() -> ImageRGB:
    """Return a red square on grey, of the most frequent picture size."""
    image: ImageRGB = np.full((*USUAL_PICTURES_HW[0], 3), 150, dtype=np.uint8)
    left, top, right, bottom = SQUARE_XYXY
    image[top:bottom, left:right] = (215, 30, 30)
    return image


def _fault(results: list[RawDetections]) -> str:
    """Return the fault in the results for one picture, and the remedy; empty if there is none."""
    if len(results) != 1:
        return f"it gave {len(results)} results for one picture. {DOWNLOAD_AGAIN}"
    [result] = results
    arrays = (result.boxes_xyxy_norm, result.phrase_max, result.phrase_mean)
    boxes = len(result.boxes_xyxy_norm)
    shapes = [array.shape for array in arrays]
    if boxes == 0 or shapes != [(boxes, 4), (boxes, 1), (boxes, 1)]:
        return f"its result has the shapes {shapes}. {DOWNLOAD_AGAIN}"
    if not all(np.isfinite(array).all() for array in arrays):
        return "it computed NaN or infinite numbers. Set model.precision to float32."
    if result.phrase_max.min() < 0 or result.phrase_max.max() > 1:
        return f"its scores are not between 0 and 1. {DOWNLOAD_AGAIN}"
    return ""
