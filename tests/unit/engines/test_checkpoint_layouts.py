"""Containers, prefixes and extras of checkpoints as training programs write them."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prelabel.checkpoints.cards import ModelCard, model_folder
from prelabel.engines.checkpoint_layouts import has_separate_box_heads, layout_of, unwrap
from prelabel.engines.weights import read_weights
from prelabel.errors import ModelError

ORIGINAL = {
    "transformer.level_embed": torch.zeros(4, 8),
    "bbox_embed.0.layers.0.bias": torch.ones(2),
}
PORT = {
    "model.backbone.conv_encoder.model.embeddings.norm.bias": torch.zeros(8),
    "bbox_embed.0.layers.0.bias": torch.ones(2),
}
MMDETECTION = {
    "backbone.stages.0.blocks.0.norm1.bias": torch.zeros(8),
    "level_embed": torch.ones(2),
}
LAYOUTS = [ORIGINAL, PORT, MMDETECTION]
Wrap = Callable[[dict[str, torch.Tensor]], dict[str, Any]]
CONTAINERS: dict[str, Wrap] = {
    "bare": lambda weights: weights,
    "DETR": lambda weights: {"model": weights, "epoch": 1},
    "Lightning": lambda weights: {"state_dict": weights, "pytorch-lightning_version": "2.5"},
    "MMEngine with averages": lambda weights: {
        "state_dict": weights,
        "ema_state_dict": {name: tensor + 1 for name, tensor in weights.items()},
        "meta": {"epoch": 12},
    },
    "PyTorch's tutorial": lambda weights: {"model_state_dict": weights, "loss": torch.tensor(0.1)},
    "averages alone": lambda weights: {"ema_model": weights},
    "averages beside": lambda weights: {
        "model": weights,
        "ema_model": {name: tensor + 1 for name, tensor in weights.items()},
    },
}
PREFIXES = ["", "module.", "model.", "module.model.", "_orig_mod.", "model._orig_mod."]


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("weights", LAYOUTS, ids=["original", "port", "mmdetection"])
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_weights_are_found_in_every_container_under_every_prefix(
    tmp_path: Path, container: str, prefix: str, weights: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "own.pth"
    prefixed = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save(CONTAINERS[container](prefixed), path)
    assert same(read_weights(path), weights)


def test_what_stood_beside_the_model_in_its_module_is_left_out() -> None:
    """A loss with weights of its own in a Lightning module."""
    inside = {f"model.{name}": tensor for name, tensor in ORIGINAL.items()}
    assert same(unwrap({"state_dict": inside | {"loss.weight": torch.ones(3)}}), ORIGINAL)


def test_layouts_are_told_apart(demo_card: ModelCard) -> None:
    port = load_file(model_folder(demo_card, "models") / "model.safetensors")
    weights: tuple[dict[str, Any], ...] = (*LAYOUTS, port, {"a.weight": 0})
    assert [str(layout_of(each)) for each in weights] == [
        *("Layout.ORIGINAL", "Layout.PORT", "Layout.MMDETECTION", "Layout.PORT", "None")
    ]


@pytest.mark.parametrize("prefix", ["bbox_embed", "transformer.decoder.bbox_embed"])
def test_box_heads_are_compared_by_value(prefix: str) -> None:
    def heads(*values: float) -> dict[str, torch.Tensor]:
        return {f"{prefix}.{i}.layers.0.bias": torch.tensor([v]) for i, v in enumerate(values)}

    assert not has_separate_box_heads(heads(1))
    assert not has_separate_box_heads(heads(1, 1, 1))
    assert has_separate_box_heads(heads(1, 1, 2))


def in_module(name: str, **types: type) -> type[Any]:
    """Give a type the name that it has in a library which is not installed here."""
    (kind,) = types.values()
    kind.__module__, kind.__qualname__, kind.__name__ = name, *types.keys(), *types.keys()
    return kind


class ConfigDict(dict[str, Any]):
    """As `addict.Dict`, which SLConfig derives from: a dictionary with attributes of its own."""

    def __getstate__(self) -> dict[str, Any]:
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class Schedule:
    def __init__(self) -> None:
        self.anneal = Schedule.cosine

    @staticmethod
    def cosine() -> None: ...


def arguments(tmp_path: Path) -> dict[str, Any]:
    """A checkpoint of Open-GroundingDino's main.py, with the keys that forks add."""
    return {
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict(),
        "lr_scheduler": {"step_size": 4, "_last_lr": [1e-4], "milestones": OrderedDict()},
        "epoch": 14,
        "args": argparse.Namespace(
            lr=1e-4,
            device="cuda",
            output_dir=tmp_path,
            options=ConfigDict(backbone=ConfigDict(name="swin")),
            gpu=torch.device("cpu"),
            nested=argparse.Namespace(seed=np.int64(42), best=np.float32(0.5)),
            sizes=np.arange(3),
        ),
    }


def test_checkpoint_of_open_groundingdino_is_read(tmp_path: Path) -> None:
    module = ModuleType("util.slconfig")
    module.ConfigDict = in_module("util.slconfig", ConfigDict=ConfigDict)  # type: ignore[attr-defined]
    sys.modules |= {"util": ModuleType("util"), "util.slconfig": module}
    path = tmp_path / "checkpoint_best_regular.pth"
    try:
        torch.save({"model": ORIGINAL} | arguments(tmp_path), path)
    finally:
        del sys.modules["util"], sys.modules["util.slconfig"]
    before = set(sys.modules)
    assert same(read_weights(path), ORIGINAL)
    assert "util.slconfig" not in set(sys.modules) - before


def test_reading_leaves_nothing_allowed_behind(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save({"model": ORIGINAL, "args": argparse.Namespace(lr=1)}, path)
    before = set(torch.serialization.get_safe_globals())
    read_weights(path)
    assert set(torch.serialization.get_safe_globals()) == before


class Caller:
    """A pickle of it calls something when it is loaded."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.args


def hostile(target: Path) -> dict[str, object]:
    return {
        "a method": Caller(Path.mkdir, target),
        "a method by name": Caller(getattr, Caller(PosixPath, str(target)), "mkdir"),
        "a builtin": Caller(exec, f"import os; os.mkdir({str(target)!r})"),
        "a module that is never allowed": Caller(__import__("os").mkdir, str(target)),
        "in a namespace": argparse.Namespace(x=Caller(exec, f"open({str(target)!r}, 'w')")),
        "a whole model": torch.nn.Linear(1, 1),
    }


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_pickle_that_would_run_code_runs_none(tmp_path: Path, name: str) -> None:
    """A call is refused; what only looks one up ends in a stand-in."""
    target = tmp_path / "made"
    path = tmp_path / "own.pth"
    torch.save({"model": ORIGINAL, "args": hostile(target)[name]}, path)
    if name == "a method by name":
        assert same(read_weights(path), ORIGINAL)
    else:
        with pytest.raises(ModelError, match=r"holds more than weights.*was not loaded"):
            read_weights(path)
    assert not target.exists()


def test_refusal_names_the_type(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"\(torch\.nn\.modules\.linear\.Linear\)"):
        read_weights(tmp_path / "own.pth")


@pytest.mark.parametrize("content", [{}, {"model": {}}, [torch.ones(1)], {"epoch": 3}, 7])
def test_file_without_weights_is_a_sentence(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"own\.pth holds no weights"):
        read_weights(tmp_path / "own.pth")


def test_damaged_pickles_raise_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save({"model": ORIGINAL, "args": argparse.Namespace(lr=1)}, path)
    whole = path.read_bytes()
    dice = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in dice.integers(0, 700, size=3):
            damaged[place] = dice.integers(0, 256)
        path.write_bytes(damaged[: dice.integers(1, len(whole) + 1)])
        with suppress(ModelError):
            read_weights(path)
