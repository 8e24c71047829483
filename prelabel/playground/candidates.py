"""Detections over a low threshold -> the answer from which the page chooses boxes.

The page applies thresholds and suppression itself, so that a slider costs no request. Its rule is
that of `select_detections`, `merge_views` and `chosen_rows`; the numbers keep the precision of
float32, so that comparisons have the same outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from prelabel.errors import PrelabelError
from prelabel.labelstudio.config_text import ConfigLabel
from prelabel.playground.protocol import CandidatesAnswer, PhraseAnswer, SecondsAnswer
from prelabel.prompts.messages import unreadable_message
from prelabel.types import Detections, Floats, LookPlan, TaskPlan, Thresholds

# Of real models, each of 900 queries has some score; those below are noise in every picture.
FLOOR: Final = Thresholds(0.02, 0.0)
# Of a picture without tiles. An answer then has at most 100 kB.
MAX_CANDIDATES: Final = 1_000


def candidates_answer(
    plan: TaskPlan,
    labels: Sequence[ConfigLabel],
    detections: Detections,
    model_version: str,
    seconds: SecondsAnswer,
) -> CandidatesAnswer:
    """Return the answer to a request for candidates.

    Args:
        plan: The plan of the picture, with one look.
        labels: The labels of its config.
        detections: The candidates of the detector, over `FLOOR`.
        model_version: The version that predictions carry.
        seconds: Durations.
    """
    [look] = plan.looks
    notes = [unreadable_message(plan.unreadable)] if plan.unreadable else []
    floor = FLOOR.box
    # The candidates of a tiled picture are limited by the detector, as its predictions are.
    if detections.view_index is None and len(detections.scores) > MAX_CANDIDATES:
        detections, floor = _best(detections)
        notes.append(
            f"The page has the best {len(detections.scores)} boxes. Those with a score below "
            f"{floor:.3f} are left out."
        )
    if detections.text_scores is None:
        raise PrelabelError("The detector gave no text scores. Deploy all parts of one version.")
    views = detections.view_index
    return CandidatesAnswer(
        image_wh=detections.image_wh,
        phrases=_phrases(look),
        labels=[label.value for label in labels],
        boxes_xyxy=_rows_of_four(shortest_decimals(detections.boxes_xyxy)),
        scores=shortest_decimals(detections.scores),
        text_scores=shortest_decimals(detections.text_scores),
        phrase_index=detections.phrase_index.tolist(),
        view_index=None if views is None else views.tolist(),
        floor=floor,
        notes=[*notes, *plan.notes],
        model_version=model_version,
        seconds=seconds,
    )


def shortest_decimals(values: Floats) -> list[float]:
    """Return the shortest decimals that mean the same float32 values, flat."""
    return [float(str(value)) for value in values.astype(np.float32).ravel()]


def _best(detections: Detections) -> tuple[Detections, float]:
    """Return the best candidates, and the score from which on none is missing."""
    first_lost = detections.scores[MAX_CANDIDATES]
    # Of equal scores all are left out, so that a threshold separates the two.
    rows = np.flatnonzero(detections.scores[:MAX_CANDIDATES] > first_lost)
    best = detections.take(rows)
    lowest = best.scores[-1] if len(rows) else np.nextafter(first_lost, np.float32(2))
    return best, float(str(np.float32(lowest)))


def _phrases(look: LookPlan) -> list[PhraseAnswer]:
    return [
        PhraseAnswer(
            phrase=phrase,
            label=None if target is None else target.label,
            dropped=target is None,
        )
        for phrase, target in zip(look.phrases, look.targets, strict=True)
    ]


def _rows_of_four(numbers: Sequence[float]) -> list[list[float]]:
    return [list(numbers[start : start + 4]) for start in range(0, len(numbers), 4)]
