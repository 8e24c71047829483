"""Reading weights without running code from the file, and saying what does not fit."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from prelabel.engines.checkpoint_layouts import unwrap
from prelabel.engines.pickles import read_pickle
from prelabel.errors import ModelError

_SHOWN = 3
# In checkpoints, but of training, of BERT's unused head, or computed anew by today's libraries.
_HARMLESS = re.compile(
    r"^label_enc\.|\.pooler\.|\.position_ids$|\.relative_position_index$|\.swin\.layernorm\."
)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a .safetensors file, or of a .pth or .bin; see `unwrap` for what is cut off.

    Raises ModelError for a damaged file, for one without weights, and for a pickle that holds
    anything but tensors and plain data.
    """
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    weights = unwrap(content)
    if not weights:
        raise ModelError(
            f"{path.name} holds no weights. Save the model's state_dict, bare or under 'model' or "
            "'state_dict'."
        )
    return weights


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


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path.name} is damaged, or no safetensors file. Copy or download it again."
        ) from error


def _some(keys: Collection[str]) -> str:
    shown = sorted(keys)[:_SHOWN]
    return ", ".join(shown) + (", ..." if len(keys) > _SHOWN else "")
