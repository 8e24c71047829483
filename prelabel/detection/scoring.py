"""Token probabilities to scored boxes with at most one phrase each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prelabel.boxes import area_xyxy, clip_xyxy, norm_to_px
from prelabel.detection.tiling import Tile
from prelabel.types import Detections, RawDetections, Thresholds


def select_detections(
    chunks: Sequence[RawDetections],
    thresholds: Thresholds,
    image_wh: tuple[int, int],
    region: Tile | None = None,
) -> Detections:
    """Return the boxes over the thresholds, of all chunks together, best score first.

    Boxes come as 0..1 of the region and leave in pixels of the picture, clipped to it; boxes
    without area inside the picture are dropped. A box takes the phrase with the greatest mean token
    probability, as in Grounding DINO's own COCO evaluation (`PostProcessCocoGrounding` in
    demo/test_ap_on_coco.py): sub-words, and words that several phrases share, then do not mix
    labels. Its score is the greatest token probability in that phrase, which is the number that
    Grounding DINO's demos compare with the box threshold.

    Args:
        chunks: Results of the engine, one for each chunk of the phrases; at least one.
        thresholds: Least score (`box`) and least mean token probability (`text`), both inclusive.
        image_wh: Width and height of the picture in pixels.
        region: The part that the model saw, in pixels of the picture; None for the whole.
    """
    region = region or Tile(0, 0, *image_wh)
    origin = np.array([region.left, region.top] * 2, np.float32)
    boxes, scores, means, phrases = [], [], [], []
    for chunk in chunks:
        phrase = np.argmax(chunk.phrase_mean, axis=1)
        rows = np.arange(len(phrase))
        score, mean = chunk.phrase_max[rows, phrase], chunk.phrase_mean[rows, phrase]
        over = np.flatnonzero((score >= thresholds.box) & (mean >= thresholds.text))
        boxes_px = norm_to_px(chunk.boxes_xyxy_norm[over], region.wh) + origin
        boxes_px = clip_xyxy(boxes_px, image_wh)
        # The model's boxes can reach beyond the picture, and lie outside it altogether.
        visible = area_xyxy(boxes_px) > 0
        selected = over[visible]
        boxes.append(boxes_px[visible])
        scores.append(score[selected])
        means.append(mean[selected])
        phrases.append(phrase[selected] + chunk.first_phrase)
    all_scores = np.concatenate(scores)
    # Stable: equal scores keep the model's order, so that the same picture gives the same answer.
    order = np.argsort(-all_scores, kind="stable")
    return Detections(
        boxes_xyxy=np.concatenate(boxes)[order],
        scores=all_scores[order],
        phrase_index=np.concatenate(phrases)[order].astype(np.int64),
        image_wh=image_wh,
        text_scores=np.concatenate(means)[order],
    )
