"""Lowering the scores of the checkpoint that ships."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GroundingDinoForObjectDetection

from prelabel.checkpoints.cards import CARDS_FOLDER, load_card
from prelabel.types import Floats
from training.calibrate import constant_direction, save, shift_logits
from training.card import write_card
from training.evaluate import detect, load
from training.held_out import Scenes, measured_sets
from training.icons import Sprites
from training.world import World

LOWER = 0.75  # logits


def logit(probs: Floats) -> Floats:
    return np.log(probs) - np.log1p(-probs)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
def test_scores_fall_by_what_was_asked_and_boxes_stay(world: World, tmp_path: Path) -> None:
    shipped = CARDS_FOLDER / "demo"
    model = GroundingDinoForObjectDetection.from_pretrained(shipped, dtype=torch.float32)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    save(model, tmp_path)
    size = {"image_size": load_card("demo").image_size}  # that it was trained at
    card = load_card(str(write_card(tmp_path))).model_copy(update=size)
    scenes = Scenes(measured_sets(world)["pairs"], world, Sprites({}))

    before = load(card, tmp_path, "huggingface")
    shift_logits(model, -LOWER * constant_direction(model, before, scenes))
    save(model, tmp_path)
    after = load(card, tmp_path, "huggingface")

    moved, falls = [], []
    for scene in scenes(10):
        [old], [new] = detect(before, scene), detect(after, scene)
        for phrase in range(len(scene.phrases)):
            best = old.phrase_max[:, phrase].argmax()
            if old.phrase_max[best, phrase] < 0.3:
                continue
            distance = np.abs(new.boxes_xyxy_norm - old.boxes_xyxy_norm[best]).max(axis=1)
            # Several queries have the same box, and other scores: the best one counts.
            near = distance <= max(0.02, distance.min())
            same = np.where(near, new.phrase_max[:, phrase], 0).argmax()
            moved.append(distance[same])
            falls.append(logit(old.phrase_max[best, phrase]) - logit(new.phrase_max[same, phrase]))
    assert len(falls) > 20
    assert np.median(falls) == pytest.approx(LOWER, abs=0.1)
    quarter, three_quarters = np.percentile(falls, [25, 75])  # a few queries are others now
    assert three_quarters - quarter < 0.4
    assert np.median(moved) < 5e-3  # of the picture: a pixel of the model's input
