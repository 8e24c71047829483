"""Thresholds from data, on scenes of the demo model whose true boxes are known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.detection.batching import BatchGate
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import Picture, PictureReader
from prelabel.detection.suppression import Suppression, chosen_rows
from prelabel.evaluation.advice import Advice, Wish, advise
from prelabel.evaluation.average_precision import SizeMatches, match_label
from prelabel.evaluation.samples import Boxes, Sample, labels_in
from prelabel.images.decode import DecodedImage
from prelabel.settings import AppSettings
from prelabel.types import DetectionQuery, LookPlan, Target, Thresholds
from training.evaluate import DEFAULT_THRESHOLDS, load
from training.held_out import MeasuredSet, Scenes
from training.icons import Sprites
from training.scenes import Scene, SceneKind
from training.world import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Importing from timm.models.layers is deprecated",
        "ignore:torch.meshgrid:UserWarning",
        "ignore:`torch.cuda.amp.autocast:FutureWarning",
    ),
]
SETTINGS = AppSettings()
LOWEST = 0.05
SCENES, PAIRS = 240, 6
SUPPRESSION = Suppression.of(SETTINGS.detection)


@pytest.fixture(scope="module")
def samples(world: World, blots: Sprites) -> list[Sample]:
    """The scenes as a project: their boxes as those of people, and the model's down to LOWEST."""
    kind = SceneKind(
        things=0.0, bare_shapes=0.0, synonyms=False, pairs=world.held_out_pairs[:PAIRS]
    )
    scenes = list(Scenes(MeasuredSet("pairs", kind), world, blots)(SCENES))
    return asyncio.run(predicted(scenes))


async def predicted(scenes: Sequence[Scene]) -> list[Sample]:
    card = load_card("demo")
    engine = load(card, model_folder(card, "models"), card.engine)
    gate = BatchGate(engine.detect, max_batch_size=8)
    reader = PictureReader(SETTINGS.cache, max_pixels=1_000_000, threads=2, max_bulk=16)
    detector = PictureDetector(SETTINGS.detection, SETTINGS.cache, engine, gate, reader)

    async def sample(number: int) -> Sample:
        scene = scenes[number]
        height, width = scene.image.shape[:2]
        targets = tuple(Target("label", "image", phrase, LOWEST) for phrase in scene.phrases)
        thresholds = Thresholds(LOWEST, DEFAULT_THRESHOLDS.text)
        look = LookPlan("", None, scene.phrases, targets, thresholds)
        picture = Picture(
            number.to_bytes(4, "big"), DecodedImage(scene.image, (width, height)), urgent=False
        )
        found = await detector.detect(DetectionQuery(b"", look.phrases, thresholds), picture)
        found = found.take(chosen_rows(look, found, SUPPRESSION))
        return Sample(
            number,
            None,
            "",
            (width, height),
            Boxes.of(scene.boxes, [scene.phrases[i] for i in scene.labels]),
            Boxes.of(
                found.boxes_xyxy, [scene.phrases[i] for i in found.phrase_index], found.scores
            ),
        )

    return await asyncio.gather(*(sample(number) for number in range(len(scenes))))


@pytest.fixture(scope="module")
def matches(samples: list[Sample]) -> dict[str, SizeMatches]:
    return {label: match_label(samples, label)["all"] for label in labels_in(samples)}


def advice(
    samples: list[Sample], matches: dict[str, SizeMatches], threshold: float, wish: Wish
) -> Advice:
    return advise(samples, matches, dict.fromkeys(matches, threshold), wish, lowest=LOWEST)


def gain(found: Advice) -> float:
    assert found.before is not None
    assert found.after is not None
    return found.after - found.before


def test_the_other_half_is_at_least_as_good_as_at_the_defaults(
    samples: list[Sample], matches: dict[str, SizeMatches]
) -> None:
    assert gain(advice(samples, matches, DEFAULT_THRESHOLDS.box, Wish())) >= 0


def test_a_planted_wrong_default_is_repaired(
    samples: list[Sample], matches: dict[str, SizeMatches]
) -> None:
    found = advice(samples, matches, 0.5, Wish())
    assert len(found.proposals) >= PAIRS / 2
    assert gain(found) >= 0.02
    assert found.gain.low is not None
    assert found.gain.low > 0
