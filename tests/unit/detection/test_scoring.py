from typing import Any

import numpy as np

from prelabel.detection.scoring import select_detections
from prelabel.types import RawDetections, Thresholds

WH = (100, 50)


def raw(*rows: tuple[Any, ...], first_phrase: int = 0) -> RawDetections:
    """rows: (box in 0..1, max per phrase, mean per phrase)."""
    boxes, greatest, mean = zip(*rows, strict=True)
    arrays = (np.array(part, dtype=np.float32) for part in (boxes, greatest, mean))
    return RawDetections(next(arrays), next(arrays), next(arrays), first_phrase)


def test_a_box_takes_the_phrase_with_the_best_mean_and_its_greatest_token() -> None:
    # "red" alone is stronger in the first phrase, but the second is matched as a whole
    found = select_detections(
        [raw(([0, 0, 0.5, 0.5], [0.9, 0.8], [0.5, 0.7]))], Thresholds(0.3, 0.25), WH
    )
    assert found.phrase_index.tolist() == [1]
    np.testing.assert_allclose(found.scores, [0.8])
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 50, 25]])


def test_both_thresholds_must_be_met() -> None:
    box = [0, 0, 1, 1]
    rows = [(box, [0.29], [0.29]), (box, [0.9], [0.2]), (box, [0.31], [0.26])]
    found = select_detections([raw(*rows)], Thresholds(0.3, 0.25), WH)
    np.testing.assert_allclose(found.scores, [0.31])


def test_zero_thresholds_keep_every_box() -> None:
    rows = [([0, 0, 1, 1], [0.0], [0.0])] * 3
    assert len(select_detections([raw(*rows)], Thresholds(0, 0), WH).scores) == 3


def test_chunks_are_joined_under_the_query_s_own_phrase_numbers_best_first() -> None:
    chunks = [
        raw(([0, 0, 1, 1], [0.5], [0.5])),
        raw(([0, 0, 1, 1], [0.4, 0.8], [0.4, 0.8]), first_phrase=7),
    ]
    found = select_detections(chunks, Thresholds(0.3, 0.25), WH)
    assert found.phrase_index.tolist() == [8, 0]


def test_boxes_are_clipped_and_those_outside_dropped() -> None:
    rows = [([-0.5, -0.5, 0.5, 0.5], [0.9], [0.9]), ([1.1, 0, 1.5, 1], [0.9], [0.9])]
    found = select_detections([raw(*rows)], Thresholds(0.3, 0.25), WH)
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 50, 25]])
