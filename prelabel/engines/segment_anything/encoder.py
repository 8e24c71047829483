"""The image encoder: normalised pictures to the tokens that the mask decoder reads."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

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
