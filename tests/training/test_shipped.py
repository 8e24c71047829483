"""The checkpoint that ships, on scenes that it was not trained on: shapes, and an unseen style."""

import pytest

from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.engines.base import AnyEngine
from training.evaluate import agreement, load, tally
from training.held_out import MeasuredSet, Scenes, measured_sets
from training.icons import Sprites
from training.world import World

pytestmark = pytest.mark.filterwarnings(
    "ignore:Importing from timm.models.layers is deprecated",
    "ignore:torch.meshgrid:UserWarning",
    "ignore:`torch.cuda.amp.autocast:FutureWarning",
)
COUNT = 40


@pytest.fixture(scope="module")
def engines() -> tuple[AnyEngine, AnyEngine]:
    card = load_card("demo")
    folder = model_folder(card, "models")
    return load(card, folder, "huggingface"), load(card, folder, "groundingdino")


@pytest.fixture(scope="module")
def sets(world: World) -> dict[str, MeasuredSet]:
    return measured_sets(world)


@pytest.mark.parametrize("name", ["pairs", "unseen_pairs"])
def test_coloured_shapes_are_found(
    world: World, sets: dict[str, MeasuredSet], engines: tuple[AnyEngine, AnyEngine], name: str
) -> None:
    scenes = Scenes(sets[name], world, Sprites({}))
    assert tally(engines[0], scenes(COUNT)).ap50 > 0.9


def test_drawings_of_a_style_never_seen_are_found(
    world: World,
    sets: dict[str, MeasuredSet],
    engines: tuple[AnyEngine, AnyEngine],
    firefox: Sprites,
) -> None:
    scenes = list(Scenes(sets["styles"], world, firefox)(COUNT))
    assert sum(len(scene.boxes) for scene in scenes) > 100
    assert tally(engines[0], scenes).ap50 > 0.6
    counts = agreement(*engines, scenes)
    assert counts.boxes > 60
    assert counts.differing == 0
    assert counts.furthest_px < 0.1  # a thirtieth of it on most processors


def test_words_that_it_does_not_know_find_nothing(
    world: World,
    sets: dict[str, MeasuredSet],
    engines: tuple[AnyEngine, AnyEngine],
    firefox: Sprites,
) -> None:
    strangers = ("violet", "carpet", "window", "zebra", "mountain", "person")
    false_boxes = 0
    for scene in Scenes(sets["styles"], world, firefox)(COUNT):
        items = engines[0].prepare(scene.image, strangers)
        false_boxes += int((engines[0].detect(items)[0].phrase_max.max(axis=1) > 0.3).sum())
    assert false_boxes <= 0.2 * COUNT
