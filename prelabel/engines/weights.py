"""Reading weights without running code from the file, and saying what does not fit."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from prelabel.errors import ModelError

Weights = Mapping[str, torch.Tensor]
_SHOWN = 3
# In checkpoints, but of training, of BERT's unused head, or computed anew by today's libraries.
_HARMLESS = re.compile(
    r"^label_enc\.|\.pooler\.|\.position_ids$|\.relative_position_index$|\.swin\.layernorm\."
)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a .safetensors file, or of a .pth: bare, or under "model" as training saves them.

    A `module.` prefix, left by distributed training, is cut off. Raises ModelError for a damaged
    file, and for a pickle that holds anything but tensors and plain values.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"{path.name} is damaged or holds more than weights, and was not loaded. "
            "Use the authors' file, or convert yours to safetensors."
        ) from error
    return {
        key.removeprefix("module."): value
        for key, value in content.items()
        if isinstance(value, torch.Tensor)
    }


def require_keys(name: str, *, missing: Collection[str], unexpected: Collection[str]) -> None:
    """Raise ModelError, naming a few, unless nothing is missing and what is left over harmless."""
    missing = [key for key in missing if not _HARMLESS.search(key)]
    unexpected = [key for key in unexpected if not _HARMLESS.search(key)]
    if missing:
        raise ModelError(
            f"The checkpoint of {name} lacks {len(missing)} weights ({_some(missing)}). "
            "Check that it belongs to the config in its card."
        )
    if unexpected:
        raise ModelError(
            f"The checkpoint of {name} has {len(unexpected)} weights that its model has not "
            f"({_some(unexpected)}). Check that it belongs to the config in its card."
        )


def _read_pickle(path: Path) -> Weights:
    content = torch.load(path, map_location="cpu", weights_only=True)
    inner = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(inner, dict):
        raise ModelError(f"{path.name} holds no weights. Use the authors' file.")
    return inner


def _some(keys: Collection[str]) -> str:
    shown = sorted(keys)[:_SHOWN]
    return ", ".join(shown) + (", ..." if len(keys) > _SHOWN else "")
