"""Attention between a picture and a text (GLIP, section 3.3), the other large part of a pass.

The libraries project every position of the picture to keys, values and back, four times the model's
width. The text is short: here its side takes the projections, which the products allow, and the
picture is multiplied with as many columns as heads and tokens. The same sums, in another order.
"""

from __future__ import annotations

import torch
from torch import nn


class BiAttention(nn.Module):
    """A library's `BiMultiHeadAttention` for pictures without padding, with its weights.

    image_query, image_value: from the picture's width D to heads * d, for scores and for what the
    text receives; image_out: back from what the picture receives. text_*: the same of the text.
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
        # Parameters of their own: as layers they would be run as layers.
        self._query_weight, self._query_bias = self._by_head(image_query)
        self._value_weight, self._value_bias = self._by_head(image_value)
        self._out_weight = nn.Parameter(torch.unflatten(image_out.weight.detach(), 1, (heads, -1)))
        self._out_bias = image_out.bias
        self._text_key, self._text_value, self._text_out = text_key, text_value, text_out
        self._scale = (image_query.out_features // heads) ** -0.5

    def attend(
        self, image: torch.Tensor, text: torch.Tensor, padding: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the picture receives from the text, and the text from the picture.

        image [B, I, D]; text [B, T, D]; padding: bool [B, T], True where the text has ended.
        """
        keys = torch.unflatten(self._text_key(text), -1, (self._heads, -1)) * self._scale
        values = torch.unflatten(self._text_value(text), -1, (self._heads, -1))
        columns = torch.einsum("bthc,hcd->bdht", keys, self._query_weight).flatten(2)
        offsets = torch.einsum("bthc,hc->bht", keys, self._query_bias).flatten(1)
        scores = torch.baddbmm(offsets[:, None], image, columns)  # [B, I, heads * T]

        to_text = scores.transpose(1, 2).softmax(-1)
        seen = torch.unflatten(to_text @ image, 1, (self._heads, -1))
        received = torch.einsum("bhtd,hcd->bthc", seen, self._value_weight) + self._value_bias

        by_head = torch.unflatten(scores, -1, (self._heads, -1))
        if padding is not None:
            by_head = by_head.masked_fill(padding[:, None, None], float("-inf"))
        rows = torch.einsum("bthc,dhc->bhtd", values, self._out_weight).flatten(1, 2)
        to_image = by_head.softmax(-1).flatten(2)
        answer = torch.baddbmm(self._out_bias[None, None], to_image, rows)
        return answer, self._text_out(received.flatten(2))

    def _by_head(self, layer: nn.Linear) -> tuple[nn.Parameter, nn.Parameter]:
        weight = torch.unflatten(layer.weight.detach(), 0, (self._heads, -1))
        return nn.Parameter(weight), nn.Parameter(layer.bias.detach().view(self._heads, -1))
