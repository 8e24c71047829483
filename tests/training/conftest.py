"""Fixtures of the tests of training: the world, and drawings that need no registry."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from training.icons import Sprites, icon_sets, load_sprites
from training.model import Vocabulary
from training.world import World, load_world


@pytest.fixture(scope="session")
def world() -> World:
    return load_world()


@pytest.fixture(scope="session")
def vocabulary(world: World) -> Vocabulary:
    return Vocabulary(world)


@pytest.fixture(scope="session")
def blots(world: World) -> Sprites:
    """A magenta blot in place of every drawing."""
    blot = np.zeros((90, 60, 4), np.uint8)
    blot[...] = (255, 0, 255, 255)
    return Sprites({thing.name: {"blots": [blot]} for thing in world.things})


@pytest.fixture(scope="session")
def firefox(world: World, tmp_path_factory: pytest.TempPathFactory) -> Sprites:
    """The drawings of Firefox OS, fetched from the registry."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    [icon_set] = [icon_set for icon_set in icon_sets() if icon_set.name == "fxemoji"]
    return load_sprites(world, tmp_path_factory.mktemp("icons"), [icon_set])
