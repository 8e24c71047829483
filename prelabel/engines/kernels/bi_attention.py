"""Attention between a picture and a text (GLIP, section 3.3), in an order that costs less.

Besides deformable attention this is the other large part of a forward pass. The libraries project
every position of the picture to keys and values, and back, at four times the model's width. The
text is much shorter than the picture. Matrix products are associative, so that the projections can
be multiplied with the text's side instead, and the picture is multiplied with a matrix of
heads * tokens columns. The sums are the same in another order.
"""

from __future__ import annotations

import torch
from torch import nn


class BiAttention(nn.Module):
    """A library's `BiMultiHeadAttention` with its weights, for pictures without padding.

    Args:
        heads: Number of attention heads.
        image_query: Picture's width D to heads * d, for the scores.
        image_value: Picture's width D to heads * d, for the output of the text.
        image_out: heads * d to the picture's width D, for the output of the picture.
        text_key: Text's width D to heads * d, for the scores.
        text_value: Text's width D to heads * d, for the output of the picture.
        text_out: heads * d to the text's width D, for the output of the text.
    """

    def __init__(
        self,
        heads: int,
        *,
        image_query: nn.Linear,
        image_value: nn.Linear,
        image_out: nn.Linear,
        text_key: nn.Linear,
        text_value: nn.Linear,
        text_out: nn.Linear,
    ) -> None:
        super().__init__()
        self._heads = heads
        # Reshaped parameters instead of layers: they enter products of other shapes in `attend`.
        self._query_weight, self._query_bias = self._by_head(image_query)
        self._value_weight, self._value_bias = self._by_head(image_value)
        self._out_weight = nn.Parameter(torch.unflatten(image_out.weight.detach(), 1, (heads, -1)))
        self._out_bias = image_out.bias
        self._text_key, self._text_value, self._text_out = text_key, text_value, text_out
        self._scale = (image_query.out_features // heads) ** -0.5

    def attend(
        self, image: torch.Tensor, text: torch.Tensor, padding: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs of the picture [B, I, D] and of the text [B, T, D].

        Args:
            image: [B, I, D], features of I positions.
            text: [B, T, D], features of T tokens.
            padding: bool [B, T], True for padding; None without padding.
        """
        keys = torch.unflatten(self._text_key(text), -1, (self._heads, -1)) * self._scale
        values = torch.unflatten(self._text_value(text), -1, (self._heads, -1))
        columns = torch.einsum("bthc,hcd->bdht", keys, self._query_weight).flatten(2)
        offsets = torch.einsum("bthc,hc->bht", keys, self._query_bias).flatten(1)
        # [B, heads * T, I]: with the few tokens last, a softmax over them takes seven times as long
        # on a CPU.
        scores = torch.baddbmm(offsets[:, None], image, columns).transpose(1, 2).contiguous()

        gathered = torch.unflatten(scores.softmax(-1) @ image, 1, (self._heads, -1))
        text_values = torch.einsum("bhtd,hcd->bthc", gathered, self._value_weight)
        text_output = self._text_out((text_values + self._value_bias).flatten(2))

        by_head = torch.unflatten(scores, 1, (self._heads, -1))
        if padding is not None:
            by_head = by_head.masked_fill(padding[:, None, :, None], float("-inf"))
        rows = torch.einsum("bthc,dhc->bhtd", values, self._out_weight).flatten(1, 2)
        to_image = by_head.softmax(2).flatten(1, 2).transpose(1, 2)
        image_output = torch.baddbmm(self._out_bias[None, None], to_image, rows)
        return image_output, text_output

    def _by_head(self, layer: nn.Linear) -> tuple[nn.Parameter, nn.Parameter]:
        weight = torch.unflatten(layer.weight.detach(), 0, (self._heads, -1))
        return nn.Parameter(weight), nn.Parameter(layer.bias.detach().view(self._heads, -1))
