"""Smoke test of a segmenter: one picture and one box before it takes requests.

A model may fail, or compute NaN, on a device or in a number format on which it was never run. A
replica that fails its start is not put into service, and the replica before it keeps serving. The
pass warms the model up as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prelabel.detection.smoke_test import DOWNLOAD_AGAIN, SQUARE_XYXY, attempt, square_picture
from prelabel.engines.base import Encoding, SegmenterEngine
from prelabel.types import MaskLogits, MaskPrompt


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

    def segment() -> tuple[list[Encoding], list[tuple[MaskLogits, ...]]]:
        encodings = engine.encode([engine.prepare(square_picture())])
        left, top, right, bottom = SQUARE_XYXY
        box = (float(left), float(top), float(right), float(bottom))
        prompt = MaskPrompt(box_xyxy=box, clip_xyxy=box)
        return encodings, engine.decode([(encoding, (prompt,)) for encoding in encodings])

    (encodings, results), run = attempt(engine, f"segmenter {model}", segment)
    run.check(_fault(results))
    [[mask]] = results
    return SegmenterTestResult(run.runs_on, run.seconds, encodings[0].nbytes, mask.quality)


def _fault(results: list[tuple[MaskLogits, ...]]) -> str:
    """Return the fault in the results for one box, and the remedy; empty if there is none."""
    if [len(masks) for masks in results] != [1]:
        return f"it gave {[len(masks) for masks in results]} masks for one box. {DOWNLOAD_AGAIN}"
    [[mask]] = results
    if mask.logits.ndim != 2 or not mask.logits.size:
        return f"its mask has the shape {mask.logits.shape}. {DOWNLOAD_AGAIN}"
    if not (np.isfinite(mask.logits).all() and np.isfinite(mask.quality)):
        return "it computed NaN or infinite numbers. Set model.precision to float32."
    if not 0 <= mask.quality <= 1:
        return f"its quality {mask.quality} is not between 0 and 1. {DOWNLOAD_AGAIN}"
    return ""
