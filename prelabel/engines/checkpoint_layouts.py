"""Layouts of checkpoints: container, prefixes, and the library whose names the weights have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

import torch

Weights = Mapping[str, torch.Tensor]

# The keys under which training programs save the weights, in order of preference: DETR's
# descendants and Open-GroundingDino; Lightning and MMEngine (which puts its averaged weights there
# as well); PyTorch's own tutorials; programs that save averaged weights only.
_CONTAINERS: Final = ("model", "state_dict", "model_state_dict", "ema_model")


class Layout(Enum):
    """The library whose names the weights have; the value is its name in messages."""

    ORIGINAL = "groundingdino"
    PORT = "transformers"
    MMDETECTION = "MMDetection"


# For each layout a name that is in all of its checkpoints and in no checkpoint of another layout.
_LANDMARKS: Final = {
    Layout.PORT: r"model\.backbone\.conv_encoder\.",
    Layout.MMDETECTION: r"backbone\.stages\.0\.",
    Layout.ORIGINAL: r"transformer\.level_embed$",
}
_WRAPPED: Final = re.compile(rf"((?:\w+\.)*?)(?:{'|'.join(_LANDMARKS.values())})")
_BOX_HEAD: Final = re.compile(
    r"^(?:model\.decoder\.|transformer\.decoder\.)?bbox_embed\.(\d+)\.(.+)"
)
_CLASS_HEAD: Final = re.compile(r"^(?:model\.decoder\.)?class_embed\.(\d+)\.(.+)")


def unwrap(content: object) -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint's content by name; empty if it holds no tensors.

    If the model was part of another module when it was saved (`module.` of distributed training,
    `model.` of Lightning, `_orig_mod.` of torch.compile), that prefix is removed, and weights
    without it are left out.
    """
    if not isinstance(content, dict):
        return {}
    nested = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), None)
    tensors = {
        str(key).removeprefix("module."): value
        for key, value in (content if nested is None else nested).items()
        if isinstance(value, torch.Tensor)
    }
    prefix = next((match[1] for key in tensors if (match := _WRAPPED.match(key))), "")
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def layout_of(names: Iterable[str]) -> Layout | None:
    """Return the layout of weights with these names; None if they are not a Grounding DINO's."""
    names = list(names)
    for layout, landmark in _LANDMARKS.items():
        if any(re.match(landmark, name) for name in names):
            return layout
    return None


def has_separate_box_heads(weights: Weights) -> bool:
    """Return True if each layer of the decoder has a box head of its own, in any layout.

    A head that all layers share is in the checkpoint once, or once for each layer.
    """
    return _any_differ(weights, _BOX_HEAD)


def has_separate_class_heads(weights: Weights) -> bool:
    """Return True if each layer of the decoder has a class head of its own, in any layout.

    Only the class heads of MM-Grounding-DINO have weights.
    """
    return _any_differ(weights, _CLASS_HEAD)


def with_one_box_head(weights: Weights) -> dict[str, torch.Tensor]:
    """Return the port's weights with the shared box head under `bbox_embed.0` only."""
    single: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        match = _BOX_HEAD.match(name)
        single.setdefault(f"bbox_embed.0.{match[2]}" if match else name, tensor)
    return single


def _any_differ(weights: Weights, head: re.Pattern[str]) -> bool:
    first: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if (match := head.match(name)) and not torch.equal(
            first.setdefault(match[2], tensor), tensor
        ):
            return True
    return False
