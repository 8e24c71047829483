"""The faster encoder and decoder of this project, or those of transformers if results differ.

The faster ones repeat what transformers does, and another version of transformers may do something
else. So each is compared with the library's once, when a checkpoint is loaded.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from prelabel.engines.device import Placement
from prelabel.engines.kernels.linear import pack_linears
from prelabel.engines.segment_anything.blockwise_attention import BlockwiseAttention
from prelabel.engines.segment_anything.decoder import (
    FoldedDecoder,
    ImageTokens,
    LibraryDecoder,
    MaskDecoder,
)
from prelabel.engines.segment_anything.encoder import (
    ImageEncoder,
    LibraryEncoder,
    WindowedEncoder,
)
from prelabel.engines.segment_anything.frames import CELLS_PER_TOKEN

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3  # relative to the greatest number; float32 differs by 1e-5
_FALLBACK = "The faster %s %s with this version of transformers; the library's is used."
_CHANGES = (AttributeError, TypeError, ValueError, KeyError, IndexError, RuntimeError)


def choose_encoder(model: Any, side: int, placement: Placement) -> ImageEncoder:
    """Return the faster image encoder for this model and device; it may change the model's layers.

    Args:
        model: A SamModel or a Sam2Model.
        side: Side of the grid of image tokens.
        placement: Device and number formats of the model.
    """
    encoder = _faster_encoder(model, side, placement)
    # After the comparisons, which read weights that a packed layer no longer has.
    if placement.allows_packed_linears:
        pack_linears(model.vision_encoder)
    return encoder


def _faster_encoder(model: Any, side: int, placement: Placement) -> ImageEncoder:
    library = LibraryEncoder(model, side)
    if placement.device.type != "cpu":
        return library
    try:
        if not placement.is_reduced:
            _use_blockwise_attention(model)
        if not WindowedEncoder.fits(model, side):
            return library
        windowed = WindowedEncoder(model, side)
        if _encode_alike(model, windowed, library):
            return windowed
        reason = "gives other numbers"
    except _CHANGES as error:
        reason = f"does not fit ({error})"
    logger.warning(_FALLBACK, "image encoder", reason)
    return library


def choose_decoder(model: Any, side: int) -> MaskDecoder:
    """Return the folded mask decoder of a model if it decodes one prompt as the library does.

    Args:
        model: A SamModel or a Sam2Model.
        side: Side of the grid of image tokens.
    """
    library = LibraryDecoder(model, side)
    try:
        folded = FoldedDecoder(model, side)
        if _decode_alike(model, side, folded, library):
            return folded
        reason = "gives other masks"
    except _CHANGES as error:
        reason = f"does not fit ({error})"
    logger.warning(_FALLBACK, "mask decoder", reason)
    return library


@torch.inference_mode()
def _use_blockwise_attention(model: Any) -> None:
    """Replace the attention of SAM over the whole picture, unless it gives other numbers."""
    if not getattr(model.config.vision_config, "use_rel_pos", False):
        return
    for layer in model.vision_encoder.layers:
        if layer.window_size == 0:
            blockwise = BlockwiseAttention(layer.attn)
            weight = layer.attn.qkv.weight
            random = torch.Generator().manual_seed(0)
            # A grid of few tokens, for which the library interpolates the relative positions.
            tokens = torch.randn(1, 7, 9, weight.shape[1], generator=random).to(weight)
            if not _are_close(blockwise(tokens)[0], layer.attn(tokens)[0]):
                logger.warning(_FALLBACK, "attention", "gives other numbers")
                return
            layer.attn = blockwise


@torch.inference_mode()
def _encode_alike(model: Any, windowed: ImageEncoder, library: ImageEncoder) -> bool:
    weight = model.prompt_encoder.no_mask_embed.weight
    px = model.prompt_encoder.input_image_size
    pixels = torch.randn(1, 3, px, px, generator=torch.Generator().manual_seed(0)).to(weight)
    (found,), (expected,) = windowed(pixels), library(pixels)
    return _are_close(found.tokens, expected.tokens)


@torch.inference_mode()
def _decode_alike(model: Any, side: int, folded: MaskDecoder, library: MaskDecoder) -> bool:
    weight = model.prompt_encoder.no_mask_embed.weight
    random = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).to(weight)

    channels = weight.shape[1]
    fine: tuple[torch.Tensor, ...] = ()
    if hasattr(model.mask_decoder, "conv_s0"):
        tokens = side * side
        fine = (noise(tokens, 2, 2, channels // 4), noise(tokens, 2, 2, 2, 2, channels // 8))
    image = ImageTokens(noise(side * side, channels), fine)
    box = torch.tensor([[[0.2, 0.3, 0.7, 0.8]]]).to(weight) * model.prompt_encoder.input_image_size
    prompts = model.get_prompt_embeddings(input_boxes=box)[0][0]
    cells = side * CELLS_PER_TOKEN
    whole = [(0, 0, cells, cells)]
    (found,), quality = folded(image, prompts, whole, best_of_all=False)
    (expected,), expected_quality = library(image, prompts, whole, best_of_all=False)
    return _are_close(found, expected) and _are_close(quality, expected_quality)


def _are_close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) <= _TOLERANCE * largest
