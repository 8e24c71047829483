"""Pictures to look at and the demo checkpoint in either engine."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw

from prelabel.checkpoints.cards import ModelCard, load_card, model_folder
from prelabel.engines import load_engine
from prelabel.engines.torch_engine import TorchEngine
from prelabel.types import ImageRGB
from tests.support.engine_factory import EngineFactory

# groundingdino-py 0.4.0 is of 2023: it imports timm by an old path, calls torch.meshgrid without
# `indexing` and torch.cuda.amp.autocast by its old name. All three still do what they did.
_OLD_CALLS = (
    "ignore:Importing from timm.models.layers is deprecated:FutureWarning",
    "ignore:torch.meshgrid:UserWarning",
    "ignore:`torch.cuda.amp.autocast:FutureWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rsplit("/", 1)[0]):
            for filter_line in _OLD_CALLS:
                item.add_marker(pytest.mark.filterwarnings(filter_line))


@pytest.fixture(scope="session")
def demo_card() -> ModelCard:
    return load_card("demo")


@pytest.fixture(scope="session")
def demo_engine(demo_card: ModelCard) -> EngineFactory:
    """The demo by name of engine and precision, on the CPU; loaded once each."""

    @cache
    def load(engine: str, precision: str) -> TorchEngine:
        card = demo_card.model_copy(update={"engine": engine})
        loaded = load_engine(card, model_folder(card, "models"), device="cpu", precision=precision)
        assert isinstance(loaded, TorchEngine)
        return loaded

    return load


@pytest.fixture(scope="session")
def scene() -> ImageRGB:
    """112 x 112: a red circle at the top left, a blue square at the bottom right."""
    picture = Image.new("RGB", (112, 112), "gray")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 10, 44, 46), fill=(220, 40, 40))
    draw.rectangle((64, 60, 100, 96), fill=(40, 80, 220))
    return np.asarray(picture)


@pytest.fixture(scope="session")
def wide_scene(scene: ImageRGB) -> ImageRGB:
    """112 x 168: another size after resizing, too."""
    return np.concatenate([scene, np.full((112, 56, 3), 128, dtype=np.uint8)], axis=1)
