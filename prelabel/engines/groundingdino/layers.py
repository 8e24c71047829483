"""Layers that several parts of the forward pass have, with the weights of the library's layers."""

from __future__ import annotations

import torch
from groundingdino.models.GroundingDINO.utils import MLP
from torch import nn
from torch.nn import functional

from prelabel.engines.kernels.linear import PackedLinear, feed_forward


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    """Return a layer with copies of these parameters."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer


class Attention(nn.Module):
    """Attention of several heads among queries, in PyTorch's fused form.

    `nn.MultiheadAttention` copies a mask for each head and transposes its inputs.
    """

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        weight, bias, width = layer.in_proj_weight, layer.in_proj_bias, layer.embed_dim
        self.query_key = linear(weight[: 2 * width], bias[: 2 * width])
        self.value = linear(weight[2 * width :], bias[2 * width :])
        self.out = linear(layer.out_proj.weight, layer.out_proj.bias)
        self._heads = layer.num_heads

    def forward(
        self, places: torch.Tensor, content: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return attended content [B, Q, D].

        Args:
            places: [B, Q, D], from which queries and keys are computed.
            content: [B, Q, D], from which values are computed.
            mask: bool [B, 1, Q, Q], True where one attends to another.
        """
        query, key = self.query_key(places).chunk(2, dim=-1)
        return _attend(query, key, self.value(content), mask, self._heads, self.out)


class CrossAttention(nn.Module):
    """Attention of queries to tokens."""

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        weight, bias, width = layer.in_proj_weight, layer.in_proj_bias, layer.embed_dim
        self.query = linear(weight[:width], bias[:width])
        self.key_value = linear(weight[width:], bias[width:])
        self.out = linear(layer.out_proj.weight, layer.out_proj.bias)
        self._heads = layer.num_heads

    def forward(
        self, queries: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return attended tokens [B, Q, D].

        Args:
            queries: [B, Q, D].
            tokens: [B, T, D].
            mask: bool [B, 1, 1, T], False for padding.
        """
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        return _attend(self.query(queries), key, value, mask, self._heads, self.out)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    heads: int,
    out: nn.Module,
) -> torch.Tensor:
    query, key, value = (
        torch.unflatten(each, -1, (heads, -1)).transpose(1, 2) for each in (query, key, value)
    )
    attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    projected: torch.Tensor = out(attended.transpose(1, 2).flatten(2))
    return projected


class LinearReLU(nn.Module):
    """A linear layer with a ReLU, by names with which `pack_linears` makes one kernel of both."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.linear1 = layer
        self.activation: nn.Module = nn.ReLU()

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Map [..., inputs] to [..., outputs]."""
        mapped: torch.Tensor = self.activation(self.linear1(numbers))
        return mapped


class FeedForward(LinearReLU):
    """Two linear layers with a ReLU between them."""

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__(first)
        self.linear2 = second

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map [..., D] to [..., D]."""
        if isinstance(self.linear1, PackedLinear) and isinstance(self.linear2, PackedLinear):
            return feed_forward(self.linear1, self.linear2, tokens)
        mapped: torch.Tensor = self.linear2(super().forward(tokens))
        return mapped


class Perceptron(nn.Module):
    """The library's `MLP`: linear layers with a ReLU after each but the last."""

    def __init__(self, layer: MLP) -> None:
        super().__init__()
        *hidden, last = layer.layers
        self.hidden = nn.ModuleList(LinearReLU(each) for each in hidden)
        self.last = last

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Map [..., D] to [..., outputs]."""
        for layer in self.hidden:
            numbers = layer(numbers)
        mapped: torch.Tensor = self.last(numbers)
        return mapped
