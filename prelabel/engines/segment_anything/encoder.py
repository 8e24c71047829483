"""The image encoder: normalised pictures to the tokens that the mask decoder reads."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional

from prelabel.engines.segment_anything.decoder import ImageTokens
from prelabel.engines.segment_anything.upsampling import Upsampling


class ImageEncoder(Protocol):
    """Encodes a batch of pictures."""

    def __call__(self, pixels: Tensor) -> list[ImageTokens]:
        """Return the tokens of each picture of normalised pixels [B, 3, S, S]."""


class LibraryEncoder:
    """The image encoder of transformers, of SAM or SAM 2.

    Args:
        model: A SamModel or a Sam2Model.
        side: Side of the grid of image tokens.
    """

    def __init__(self, model: Any, side: int) -> None:
        self._model = model
        self._upsampling = Upsampling(model.mask_decoder, side)

    def __call__(self, pixels: Tensor) -> list[ImageTokens]:
        """Return the tokens of each picture of normalised pixels [B, 3, S, S]."""
        planes = self._model.get_image_embeddings(pixels)
        *fine, coarse = planes if isinstance(planes, list) else [planes]
        tokens = coarse.flatten(2).transpose(1, 2) + self._model.prompt_encoder.no_mask_embed.weight
        tokens = tokens.contiguous()
        return [
            ImageTokens(
                tokens[i].clone(),  # not a view, which would keep the whole batch in memory
                self._upsampling.by_token([each[i] for each in fine]) if fine else (),
            )
            for i in range(len(tokens))
        ]


class WindowedEncoder:
    """The image encoder of a SAM without relative positions, with its tokens in order of windows.

    All layers but the attention treat each token alone, and attention over the whole picture does
    not depend on the order of tokens. So the tokens are put into the order of windows once, and
    into rows once at the end, instead of twice in each layer.

    The layers are those of `SamVisionEncoder` of transformers.

    Args:
        model: A SamModel for which `fits` is true.
        side: Side of the grid of image tokens.
    """

    def __init__(self, model: Any, side: int) -> None:
        encoder = model.vision_encoder
        self._encoder = encoder
        self._no_mask = model.prompt_encoder.no_mask_embed.weight.detach()
        self._side, self._window = side, encoder.config.window_size
        self._heads = encoder.config.num_attention_heads
        positions = encoder.pos_embed
        self._positions = None if positions is None else self._by_window(positions.detach())

    @staticmethod
    def fits(model: Any, side: int) -> bool:
        """Return True for a SAM without relative positions whose windows tile the grid."""
        config = model.config.vision_config
        if config.model_type != "sam_vision_model" or config.use_rel_pos:
            return False
        return bool(config.window_size > 0 and side % config.window_size == 0)

    def __call__(self, pixels: Tensor) -> list[ImageTokens]:
        """Return the tokens of each picture of normalised pixels [B, 3, S, S]."""
        tokens = self._by_window(self._encoder.patch_embed(pixels))
        if self._positions is not None:
            tokens = tokens + self._positions
        for layer in self._encoder.layers:
            tokens = tokens + self._attend(layer, layer.layer_norm1(tokens))
            hidden = layer.mlp.act(layer.mlp.lin1(layer.layer_norm2(tokens)))
            tokens = tokens + layer.mlp.lin2(hidden)
        planes = self._encoder.neck(self._by_row(tokens))
        return [ImageTokens((plane.flatten(1).T + self._no_mask).contiguous()) for plane in planes]

    def _attend(self, layer: Any, tokens: Tensor) -> Tensor:
        """Return the attention of tokens [B, N, C] in order of windows."""
        batch, count, channels = tokens.shape
        span = layer.window_size**2 or count
        heads = layer.attn.qkv(tokens).view(-1, span, 3, self._heads, channels // self._heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = layer.attn.proj(
            attended.transpose(1, 2).reshape(batch, count, channels)
        )
        return projected

    def _by_window(self, grid: Tensor) -> Tensor:
        """Return tokens [B, S, S, C] as [B, N, C], window by window."""
        windows = self._side // self._window
        split = grid.reshape(len(grid), windows, self._window, windows, self._window, -1)
        return split.transpose(2, 3).flatten(1, 4)

    def _by_row(self, tokens: Tensor) -> Tensor:
        """Return tokens [B, N, C], window by window, as [B, S, S, C]."""
        windows = self._side // self._window
        split = tokens.view(len(tokens), windows, windows, self._window, self._window, -1)
        return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)
