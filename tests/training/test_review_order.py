"""The order in which predictions are looked at, on scenes whose true boxes are known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest

from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.detection.batching import BatchGate
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import Picture, PictureReader
from prelabel.detection.suppression import Suppression, chosen_rows
from prelabel.engines.base import AnyEngine
from prelabel.images.decode import DecodedImage
from prelabel.labelstudio.prediction_builder import PredictionBuilder
from prelabel.settings import AppSettings, ReviewSettings
from prelabel.types import DetectionQuery, LookPlan, Target, TaskPlan
from training.evaluate import DEFAULT_THRESHOLDS, correct_boxes, load
from training.held_out import Scenes, measured_sets
from training.icons import Sprites
from training.scenes import Scene
from training.world import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Importing from timm.models.layers is deprecated",
        "ignore:torch.meshgrid:UserWarning",
        "ignore:`torch.cuda.amp.autocast:FutureWarning",
    ),
]
COUNT, FIRST = 300, 60
SETTINGS = AppSettings(review=ReviewSettings(prediction_score="uncertainty"))
SUPPRESSION = Suppression.of(SETTINGS.detection)


def scores_and_corrections(
    engine: AnyEngine, scenes: Sequence[Scene]
) -> tuple[list[float], list[int]]:
    """Return each prediction's score, and the number of its wrong and of its missing boxes."""
    builder = PredictionBuilder(SUPPRESSION, SETTINGS.masks, "demo-0123456789")

    async def answer(detector: PictureDetector, number: int) -> tuple[float, int]:
        scene = scenes[number]
        targets = tuple(Target("label", "image", phrase, 0.0) for phrase in scene.phrases)
        look = LookPlan("", None, scene.phrases, targets, DEFAULT_THRESHOLDS)
        height, width = scene.image.shape[:2]
        image = DecodedImage(scene.image, (width, height))
        picture = Picture(number.to_bytes(4, "big"), image, urgent=False)
        query = DetectionQuery(b"", look.phrases, look.thresholds)
        found = await detector.detect(query, picture)
        score = builder.build(TaskPlan((look,)), [found])["score"]
        kept = found.take(chosen_rows(look, found, SUPPRESSION))
        correct = correct_boxes(kept, scene)
        return score, len(correct) - sum(correct) + len(scene.boxes) - sum(correct)

    async def answer_all() -> list[tuple[float, int]]:
        gate = BatchGate(engine.detect, max_batch_size=8)
        reader = PictureReader(SETTINGS.cache, max_pixels=1_000_000, threads=2, max_bulk=16)
        detector = PictureDetector(
            SETTINGS.detection, SETTINGS.cache, engine, gate, reader, SETTINGS.review
        )
        return await asyncio.gather(*(answer(detector, number) for number in range(len(scenes))))

    scores, corrections = zip(*asyncio.run(answer_all()), strict=True)
    return list(scores), list(corrections)


def test_the_first_fifth_has_more_to_correct_than_a_random_fifth(
    world: World, firefox: Sprites
) -> None:
    sets = measured_sets(world)
    names = ("styles", "pairs", "unseen_pairs", "wide")
    each = COUNT // len(names)
    scenes = list(chain(*(Scenes(sets[name], world, firefox)(each) for name in names)))
    card = load_card("demo")
    engine = load(card, model_folder(card, "models"), card.engine)
    scores, corrections = scores_and_corrections(engine, scenes)
    assert all(0 < score <= 1 for score in scores)
    first = np.argsort(scores, kind="stable")[:FIRST]
    found, expected = np.array(corrections)[first].sum(), sum(corrections) * FIRST / COUNT
    assert expected > 30
    assert found >= 1.5 * expected
