"""Layouts of checkpoints: container, prefixes, and the library whose names the weights have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

import torch

Weights = Mapping[str, torch.Tensor]

# Under which key training programs save the weights, in order of preference: DETR's descendants
# and Open-GroundingDino; Lightning and MMEngine, which has its averaged weights there, too;
# PyTorch's own tutorials; programs that save averaged weights alone.
_CONTAINERS: Final = ("model", "state_dict", "model_state_dict", "ema_model")


class Layout(Enum):
    """The library whose names the weights have."""

    ORIGINAL = "groundingdino"
    PORT = "transformers"
    MMDETECTION = "MMDetection"


# A name that is in every checkpoint of a layout and in none of the others.
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
    """The weights in a checkpoint's content; none where there are none.

    Cut off are the prefixes of modules that the model was part of when it was saved (`module.` of
    distributed training, `model.` of Lightning, `_orig_mod.` of torch.compile), and left out what
    stood beside it in them.
    """
    if not isinstance(content, dict):
        return {}
    inner = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), None)
    tensors = {
        str(key).removeprefix("module."): value
        for key, value in (content if inner is None else inner).items()
        if isinstance(value, torch.Tensor)
    }
    prefix = next((found[1] for key in tensors if (found := _WRAPPED.match(key))), "")
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def layout_of(names: Iterable[str]) -> Layout | None:
    """The layout that weights of these names have; None if it is none of a Grounding DINO."""
    names = list(names)
    for layout, landmark in _LANDMARKS.items():
        if any(re.match(landmark, name) for name in names):
            return layout
    return None


def has_separate_box_heads(weights: Weights) -> bool:
    """Return whether the decoder's layers have box heads of their own, in either library's layout.

    Where they share one, a checkpoint has it once, or once for each layer.
    """
    return _differ(weights, _BOX_HEAD)


def has_separate_class_heads(weights: Weights) -> bool:
    """The same of the class heads, which only MM-Grounding-DINO's have weights."""
    return _differ(weights, _CLASS_HEAD)


def with_one_box_head(weights: Weights) -> dict[str, torch.Tensor]:
    """A port's weights with the box head that all layers share under `bbox_embed.0` alone."""
    single: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        found = _BOX_HEAD.match(name)
        single.setdefault(f"bbox_embed.0.{found[2]}" if found else name, tensor)
    return single


def _differ(weights: Weights, head: re.Pattern[str]) -> bool:
    first: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if (found := head.match(name)) and not torch.equal(
            first.setdefault(found[2], tensor), tensor
        ):
            return True
    return False
