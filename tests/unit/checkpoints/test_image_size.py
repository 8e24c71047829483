"""A card's size of pictures is compared with that of a processor's file beside the weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from prelabel.checkpoints.cards import list_cards, load_card, model_folder
from prelabel.checkpoints.image_size import size_warning
from prelabel.settings.paths import PROJECT_ROOT
from tests.support.own_cards import write_own_card

SIZE = {"shortest_edge": 192, "longest_edge": 256}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", {"size": SIZE}),
        ("processor_config.json", {"image_processor": {"size": SIZE}}),
    ],
)
def test_a_processor_of_another_size_is_named_with_the_value_to_set(
    tmp_path: Path, name: str, content: object
) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    warning = size_warning(load_card("grounding-dino-tiny"), tmp_path)
    assert warning is not None
    assert f"800/1333 pixels, and {name} to 192/256 pixels" in warning
    assert "image_size of the card to {shortest_edge: 192, longest_edge: 256}" in warning
    assert size_warning(load_card("demo"), tmp_path) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{}", '{"size": {"height": 3, "width": 4}}', "[" * 100_000, "{"]
)
def test_a_processor_without_such_a_size_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content)
    assert size_warning(load_card("grounding-dino-tiny"), tmp_path) is None


def test_the_embedded_models_have_the_size_of_their_processors() -> None:
    for card in list_cards():
        assert size_warning(card, model_folder(card, "models")) is None


def test_preflight_warns_and_still_says_that_the_config_can_be_served(tmp_path: Path) -> None:
    size = {"shortest_edge": 800, "longest_edge": 1333}
    card = write_own_card(tmp_path, image_size=size)
    config = yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text())
    config["http_options"]["port"] = 0
    config["applications"][0]["args"] = {
        "model": {"name": str(card)},
        "prompts": {"remember": False},
    }
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    said = " ".join(preflight(path).split())
    assert "mine: the card resizes pictures to 800/1333 pixels" in said
    assert "can be served: model" in said
    assert len(json.loads(preflight(path, "--json"))["warnings"]) == 1


def preflight(config: Path, *options: str) -> str:
    prelabel = Path(sys.executable).with_name("prelabel")
    command: list[str | Path] = [prelabel, "preflight", config, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
