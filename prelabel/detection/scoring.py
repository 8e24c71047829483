"""From token probabilities to at most one phrase per box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prelabel.boxes import area_xyxy, clip_xyxy, norm_to_px
from prelabel.types import Detections, RawDetections, Thresholds


def select_detections(
    chunks: Sequence[RawDetections], thresholds: Thresholds, image_wh: tuple[int, int]
) -> Detections:
    """Boxes over the thresholds, of all chunks together, clipped to the picture, best first.

    A box takes the phrase with the greatest mean token probability, as in Grounding DINO's own
    COCO evaluation (`PostProcessCocoGrounding` in demo/test_ap_on_coco.py): sub-words and words
    shared by phrases then do not mix labels. Its score is the greatest probability in that span,
    the number that Grounding DINO's demos compare with the box threshold.
    """
    boxes, scores, phrases = [], [], []
    for chunk in chunks:
        phrase = np.argmax(chunk.phrase_mean, axis=1)
        rows = np.arange(len(phrase))
        score, mean = chunk.phrase_max[rows, phrase], chunk.phrase_mean[rows, phrase]
        over = np.flatnonzero((score >= thresholds.box) & (mean >= thresholds.text))
        px = clip_xyxy(norm_to_px(chunk.boxes_xyxy_norm[over], image_wh), image_wh)
        visible = area_xyxy(px) > 0
        kept = over[visible]
        boxes.append(px[visible])
        scores.append(score[kept])
        phrases.append(phrase[kept] + chunk.first_phrase)
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    return Detections(
        boxes_xyxy=np.concatenate(boxes)[order],
        scores=all_scores[order],
        phrase_index=np.concatenate(phrases)[order].astype(np.int64),
        image_wh=image_wh,
    )
