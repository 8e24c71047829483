"""Faster forms of groundingdino's attention layers, with the library's weights and names."""

from __future__ import annotations

from functools import partial

import torch
from groundingdino.models.GroundingDINO.backbone.swin_transformer import WindowAttention
from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention
from groundingdino.models.GroundingDINO.ms_deform_attn import MultiScaleDeformableAttention
from torch import nn

from prelabel.engines.device import replace_modules
from prelabel.engines.kernels.bi_attention import BiAttention
from prelabel.engines.kernels.deformable_attention import DeformableAttention, Sampler


class OriginalAttention(DeformableAttention):
    """Deformable attention with groundingdino's call signature."""

    def forward(
        self,
        query: torch.Tensor,
        value: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes: torch.Tensor,
        **_: object,
    ) -> torch.Tensor:
        """Return `DeformableAttention.attend` of the arguments; others are ignored."""
        return self.attend(query, value, reference_points, spatial_shapes)


class OriginalBiAttention(BiAttention):
    """Attention between picture and text with groundingdino's call signature."""

    def __init__(self, layer: BiMultiHeadAttention) -> None:
        super().__init__(
            layer.num_heads,
            image_query=layer.v_proj,
            image_value=layer.values_v_proj,
            image_out=layer.out_v_proj,
            text_key=layer.l_proj,
            text_value=layer.values_l_proj,
            text_out=layer.out_l_proj,
        )

    def forward(
        self,
        v: torch.Tensor,
        l: torch.Tensor,  # noqa: E741 - the library's name
        attention_mask_l: torch.Tensor | None = None,
        **_: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `BiAttention.attend` of the arguments; others are ignored."""
        return self.attend(v, l, attention_mask_l)


class OriginalWindowAttention(nn.Module):
    """Swin's attention within windows in PyTorch's fused form, with groundingdino's weights."""

    def __init__(self, layer: WindowAttention) -> None:
        super().__init__()
        self.qkv, self.proj = layer.qkv, layer.proj
        self._heads, self._scale = layer.num_heads, layer.scale
        tokens = layer.window_size[0] * layer.window_size[1]
        table, index = layer.relative_position_bias_table, layer.relative_position_index
        bias = table.detach()[index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1)
        self.register_buffer("_bias", bias.contiguous()[None])

    def forward(self, windows: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return attended windows [B * W, T, D].

        Args:
            windows: [B * W, T, D], the W windows of each picture with T tokens each.
            mask: [W, T, T], added to the scores of the W windows of a picture; None to add nothing.
        """
        bias = self.get_buffer("_bias")
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(windows) // len(mask), 1, 1, 1)
        parts = torch.unflatten(self.qkv(windows), -1, (3, self._heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), scale=self._scale
        )
        projected: torch.Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


def replace_attention(network: nn.Module, sampler: Sampler) -> None:
    """Replace the attention layers of a loaded network. The weights stay the same."""
    replace_modules(
        network,
        MultiScaleDeformableAttention,
        lambda layer: OriginalAttention(layer, layer.num_heads, layer.num_levels, sampler),
    )
    replace_modules(network, BiMultiHeadAttention, OriginalBiAttention)
    replace_modules(network, WindowAttention, OriginalWindowAttention)
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            # PyTorch returns the attention weights by default, which are never used and which
            # keep it from its fused kernels.
            module.forward = partial(module.forward, need_weights=False)  # type: ignore[method-assign]
