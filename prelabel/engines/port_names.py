"""Rules that map the names of weights in other layouts to those of the transformers port."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

Rule = tuple[str, str | Callable[[re.Match[str]], str]]  # a pattern, and its replacement

# groundingdino and MMDetection name the weights of the attention between picture and text alike.
FUSION_LAYER_RULES: Final[tuple[Rule, ...]] = (
    (r"fusion_layer\.gamma_v", "fusion_layer.vision_param"),
    (r"fusion_layer\.gamma_l", "fusion_layer.text_param"),
    (r"fusion_layer\.layer_norm_v", "fusion_layer.layer_norm_vision"),
    (r"fusion_layer\.layer_norm_l", "fusion_layer.layer_norm_text"),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)v_proj", r"\1vision_proj"),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)l_proj", r"\1text_proj"),
)
_FUSED: Final = re.compile(r"qkv\.|in_proj_")
_PARTS: Final = ("query.", "key.", "value.")


def renamed(name: str, rules: Iterable[Rule]) -> str:
    """Apply every rule that matches to a name, from first to last."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def unfused(name: str) -> tuple[str, ...]:
    """Return the names of query, key and value if a weight fuses them, else the name alone."""
    if _FUSED.search(name):
        return tuple(_FUSED.sub(part, name) for part in _PARTS)
    return (name,)
