"""Attention of SAM's image encoder over the whole picture, for a CPU.

The attention has decomposed relative positions: its scores get a bias for the row and one for the
column of each pair of tokens. transformers writes the biases of all pairs into memory, which at
64 x 64 tokens and 12 heads are 805 MB in each of four layers, and takes most of the time of a small
model. Here a block of scores is biased, normalised and used while it is in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_BLOCK_ROWS = 128  # queries of a block: 2 MB of scores with 4096 tokens


class BlockwiseAttention(nn.Module):
    """A `SamVisionAttention` of transformers with relative positions, without autocast.

    Args:
        attention: The layer. Its weights are used, not copied.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self._attention = attention
        self._heads: int = attention.num_attention_heads

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, None]:
        """Return the attention of tokens [B, h, w, C], and None for attention weights."""
        layer = self._attention
        batch, height, width, _ = hidden_states.shape
        heads, count = batch * self._heads, height * width
        qkv = layer.qkv(hidden_states).view(batch, count, 3, self._heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).reshape(3, heads, count, -1)
        by_row, by_column = self._biases(query, height, width)
        query = query * layer.scale
        attended = torch.empty_like(query)
        for head in range(heads):
            keys = key[head].T
            for first in range(0, count, _BLOCK_ROWS):
                block = slice(first, first + _BLOCK_ROWS)
                scores = by_row[head, block, :, None] + by_column[head, block, None, :]
                scores = scores.flatten(1).addmm_(query[head, block], keys)
                weights = torch.softmax(scores, dim=-1, out=scores)
                torch.mm(weights, value[head], out=attended[head, block])
        joined = attended.view(batch, self._heads, count, -1).transpose(1, 2)
        return layer.proj(joined.reshape(batch, height, width, -1)), None

    def _biases(self, query: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return the biases of each query for rows [BH, N, h] and columns [BH, N, w] of keys."""
        layer = self._attention
        rows = layer.get_rel_pos(height, height, layer.rel_pos_h)  # [h, h, D]
        columns = layer.get_rel_pos(width, width, layer.rel_pos_w)
        grid = query.view(len(query), height, width, -1)
        by_row = torch.einsum("bhwc,hkc->bhwk", grid, rows)
        by_column = torch.einsum("bhwc,wkc->bhwk", grid, columns)
        return by_row.flatten(1, 2), by_column.flatten(1, 2)
