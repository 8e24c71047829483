"""Our layers compute what the libraries' own do, with their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoBiMultiHeadAttention,
)

from prelabel.engines.kernels.bi_attention import BiAttention

WIDTH, HEADS, INNER = 16, 2, 24
LAYERS = ("groundingdino", "transformers")


def layers(library: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The library's layer with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs: Any
    ours_of: Callable[[Any], BiAttention]
    if library == "groundingdino":
        from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention

        from prelabel.engines.groundingdino.encoder import bi_attention

        theirs = BiMultiHeadAttention(WIDTH, WIDTH, INNER, HEADS)
        ours_of = bi_attention
    else:
        from prelabel.engines.huggingface import PortBiAttention

        config = GroundingDinoConfig(
            d_model=WIDTH, encoder_ffn_dim=2 * INNER, encoder_attention_heads=2 * HEADS
        )
        theirs = GroundingDinoBiMultiHeadAttention(config)  # type: ignore[no-untyped-call]
        ours_of = PortBiAttention
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    return theirs.double().eval(), ours_of(theirs).double().eval()


def answers(library: str, layer: torch.nn.Module, *given: torch.Tensor) -> list[torch.Tensor]:
    image, text, padding = given
    with torch.inference_mode():
        if isinstance(layer, BiAttention):
            return list(layer.attend(image, text, padding))
        if library == "groundingdino":
            return list(layer(v=image, l=text, attention_mask_v=None, attention_mask_l=padding))
        found = layer(image, text, vision_attention_mask=None, text_attention_mask=padding)
        return [found[0][0], found[1][0]]


@pytest.mark.slow
@pytest.mark.parametrize("library", LAYERS)
@pytest.mark.parametrize("lengths", [(5,), (1,), (7, 3), (2, 9, 9)])
def test_picture_and_text_receive_what_the_library_gives_them(
    library: str, lengths: tuple[int, ...]
) -> None:
    theirs, ours = layers(library)
    image = torch.randn(len(lengths), 31, WIDTH, dtype=torch.float64)
    text = torch.randn(len(lengths), max(lengths), WIDTH, dtype=torch.float64)
    padding = torch.arange(max(lengths))[None] >= torch.tensor(lengths)[:, None]
    expected = answers(library, theirs, image, text, padding)
    found = answers(library, ours, image, text, padding)
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape
        assert (mine - other).abs().max() < 1e-9
    assert expected[0].std() > 0.1  # it is no comparison of zeros
