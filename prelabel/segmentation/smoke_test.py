"""Smoke test of a segmenter: one picture and one box before it takes requests.

A model may fail, or compute NaN, on a device or in a number format on which it was never run. A
replica that fails its start is not put into service, and the replica before it keeps serving. The
pass warms the model up as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from prelabel.engines.base import USUAL_PICTURES_HW, SegmenterEngine
from prelabel.errors import ModelError, PrelabelError
from prelabel.types import ImageRGB, MaskLogits, MaskPrompt

_SQUARE = (200.0, 120.0, 440.0, 360.0)  # drawn in `_picture`
_DOWNLOAD_AGAIN = (
    "Its files do not fit this version of the service: run `prelabel download` for it again."
)


@dataclass(frozen=True, slots=True)
class SegmenterTestResult:
    """Facts of a successful pass, printed as a sentence for the log.

    Attributes:
        runs_on: Device and number format, as the engine names them.
        seconds: Duration of preparation, encoding and one mask together.
        encoding_bytes: Size of the picture's encoding.
        quality: IoU of the mask as the model estimates it.
    """

    runs_on: str
    seconds: float
    encoding_bytes: int
    quality: float

    def __str__(self) -> str:
        return (
            f"a picture and a mask on {self.runs_on} took {self.seconds:.2f} s, all numbers "
            f"finite, encoding {self.encoding_bytes / 1e6:.1f} MB, quality {self.quality:.2f}"
        )


def check_segmenter(engine: SegmenterEngine, model: str) -> SegmenterTestResult:
    """Encode one picture, segment one box and check the mask.

    Args:
        engine: The engine to test.
        model: Name of the model, for the error message.

    Raises:
        ModelError: The pass failed, or its mask has a wrong shape or numbers out of range.
    """
    runs_on = str(getattr(engine, "runs_on", "an unnamed device"))
    started = time.monotonic()
    try:
        encodings = engine.encode([engine.prepare(_picture())])
        prompt = MaskPrompt(box_xyxy=_SQUARE, clip_xyxy=_SQUARE)
        results = engine.decode([(encoding, (prompt,)) for encoding in encodings])
    except PrelabelError as error:
        raise ModelError(f"The segmenter {model} does not work on {runs_on}. {error}") from error
    except Exception as error:  # the edge: any error of an engine keeps the replica from starting
        raise ModelError(
            f"The segmenter {model} fails on {runs_on} with a {type(error).__name__}; the "
            "service's log has the cause. Set model.precision to float32, or model.device to cpu."
        ) from error
    seconds = time.monotonic() - started
    fault = _fault(results)
    if fault:
        raise ModelError(f"The segmenter {model} does not work on {runs_on}: {fault}")
    [[mask]] = results
    return SegmenterTestResult(runs_on, seconds, encodings[0].nbytes, mask.quality)


def _picture() -> ImageRGB:
    """Return a red square on grey, of the most frequent picture size."""
    image: ImageRGB = np.full((*USUAL_PICTURES_HW[0], 3), 150, dtype=np.uint8)
    left, top, right, bottom = map(int, _SQUARE)
    image[top:bottom, left:right] = (215, 30, 30)
    return image


def _fault(results: list[tuple[MaskLogits, ...]]) -> str:
    """Return the fault in the results for one box, and the remedy; empty if there is none."""
    if [len(masks) for masks in results] != [1]:
        return f"it gave {[len(masks) for masks in results]} masks for one box. {_DOWNLOAD_AGAIN}"
    [[mask]] = results
    if mask.logits.ndim != 2 or not mask.logits.size:
        return f"its mask has the shape {mask.logits.shape}. {_DOWNLOAD_AGAIN}"
    if not (np.isfinite(mask.logits).all() and np.isfinite(mask.quality)):
        return "it computed NaN or infinite numbers. Set model.precision to float32."
    if not 0 <= mask.quality <= 1:
        return f"its quality {mask.quality} is not between 0 and 1. {_DOWNLOAD_AGAIN}"
    return ""
