"""Our layers compute what the libraries' own do, with their weights."""

from __future__ import annotations

import pytest
import torch
from transformers import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoBiMultiHeadAttention,
)

WIDTH, HEADS, INNER = 16, 2, 24
LAYERS = ("groundingdino", "transformers")


def layers(library: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The library's layer with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs: torch.nn.Module
    ours: torch.nn.Module
    if library == "groundingdino":
        from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention

        from prelabel.engines.groundingdino.attention import OriginalBiAttention

        theirs = BiMultiHeadAttention(WIDTH, WIDTH, INNER, HEADS)
        ours = OriginalBiAttention(theirs)
    else:
        from prelabel.engines.huggingface import PortBiAttention

        config = GroundingDinoConfig(
            d_model=WIDTH, encoder_ffn_dim=2 * INNER, encoder_attention_heads=2 * HEADS
        )
        theirs = GroundingDinoBiMultiHeadAttention(config)  # type: ignore[no-untyped-call]
        ours = PortBiAttention(theirs)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours = type(ours)(theirs)  # type: ignore[arg-type]
    return theirs.double().eval(), ours.double().eval()


def answers(library: str, layer: torch.nn.Module, *given: torch.Tensor) -> list[torch.Tensor]:
    image, text, padding = given
    with torch.inference_mode():
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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_attend_as_the_library_has_it(batch: int, shifted: bool) -> None:
    from groundingdino.models.GroundingDINO.backbone.swin_transformer import WindowAttention

    from prelabel.engines.groundingdino.attention import OriginalWindowAttention

    torch.manual_seed(0)
    theirs = WindowAttention(WIDTH, (3, 3), HEADS).double().eval()
    torch.nn.init.normal_(theirs.relative_position_bias_table)
    ours = OriginalWindowAttention(theirs)
    windows = torch.randn(batch * 4, 9, WIDTH, dtype=torch.float64)
    mask = torch.where(torch.rand(4, 9, 9) > 0.3, 0.0, -100.0).double() if shifted else None
    with torch.inference_mode():
        assert (ours(windows, mask) - theirs(windows, mask)).abs().max() < 1e-9
