"""Reading of weights from files, and the check that they belong to their model."""

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

_MAX_NAMES = 3  # of weights in a message
# Weights that may be missing or left over: those of training, of BERT's unused pooling head, and
# buffers that today's libraries compute themselves.
_OPTIONAL = re.compile(
    r"^label_enc\.|\.pooler\.|\.position_ids$|\.relative_position_index$|\.swin\.layernorm\."
)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a .safetensors, .pth or .bin file by name, without outer prefixes.

    No code from the file is run.

    Raises:
        ModelError: The file is damaged, has no weights, or is a pickle that holds anything but
            tensors and plain data.
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
    """Raise ModelError if weights are missing or left over, except optional ones.

    Args:
        name: Name of the model, for the message.
        missing: Names that the model has and the checkpoint lacks.
        unexpected: Names that the checkpoint has and the model lacks.
    """
    missing = [key for key in missing if not _OPTIONAL.search(key)]
    unexpected = [key for key in unexpected if not _OPTIONAL.search(key)]
    if missing:
        raise ModelError(
            f"The checkpoint of {name} lacks {len(missing)} weights ({_first_names(missing)}). "
            "Check that it belongs to the config in its card."
        )
    if unexpected:
        raise ModelError(
            f"The checkpoint of {name} has {len(unexpected)} weights that its model lacks "
            f"({_first_names(unexpected)}). Check that it belongs to the config in its card."
        )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path.name} is damaged, or no safetensors file. Copy or download it again."
        ) from error


def _first_names(keys: Collection[str]) -> str:
    shown = sorted(keys)[:_MAX_NAMES]
    return ", ".join(shown) + (", ..." if len(keys) > _MAX_NAMES else "")
