"""The backbone: Swin's blocks in fewer steps, with the weights of groundingdino's layers.

Tokens are added up and normalised in full precision, and multiplied in the products' format.

The library pads, shifts and cuts the map into windows in four copies, and computes the masks of
shifted windows in each pass. Here one gather does the former, and the geometry has the latter.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from groundingdino.models.GroundingDINO.backbone.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    SwinTransformerBlock,
    WindowAttention,
)
from torch import nn
from torch.nn import functional

from prelabel.engines.groundingdino.geometry import HW, Geometry, StageGeometry, padded
from prelabel.engines.kernels.residual_norm import ResidualNorm

_PATCH = 4  # pixels along a side of a token of the first stage


class Backbone(nn.Module):
    """Swin for pictures without padding, from the library's module.

    Args:
        swin: The library's backbone with its weights.
        add_and_norm: Adds features up and norms them.
    """

    def __init__(self, swin: SwinTransformer, add_and_norm: ResidualNorm) -> None:
        super().__init__()
        self.patches = swin.patch_embed.proj
        self.patch_norm = swin.patch_embed.norm
        self.stages = nn.ModuleList(_Stage(layer.blocks, add_and_norm) for layer in swin.layers)
        self.mergers = nn.ModuleList(
            _Merger(layer.downsample) for layer in swin.layers if layer.downsample is not None
        )
        self.norms = nn.ModuleDict(
            {str(stage): getattr(swin, f"norm{stage}") for stage in swin.out_indices}
        )
        self._window = swin.layers[0].window_size
        self.channels = [swin.num_features[stage] for stage in swin.out_indices]

    @property
    def window(self) -> int:
        """Side of a window in tokens."""
        return int(self._window)

    def maps_hw(self, image_hw: HW) -> list[HW]:
        """Return height and width of each stage's map in tokens."""
        sides = [(-(-image_hw[0] // _PATCH), -(-image_hw[1] // _PATCH))]
        for _ in self.mergers:
            height, width = sides[-1]
            sides.append((-(-height // 2), -(-width // 2)))
        return sides

    def forward(self, pixels: torch.Tensor, geometry: Geometry) -> list[torch.Tensor]:
        """Return the maps of the stages that the model uses, each [B, H * W, C].

        Args:
            pixels: [B, 3, H, W], normalised.
            geometry: That of their size.
        """
        height, width = pixels.shape[2:]
        if height % _PATCH or width % _PATCH:
            pixels = functional.pad(pixels, (0, -width % _PATCH, 0, -height % _PATCH))
        tokens = self.patch_norm(self.patches(pixels).flatten(2).transpose(1, 2))
        maps = []
        for number, (blocks, stage) in enumerate(zip(self.stages, geometry.stages, strict=True)):
            if number:
                tokens = self.mergers[number - 1](tokens, geometry.stages[number - 1])
            tokens = blocks(tokens, stage)
            if str(number) in self.norms:
                maps.append(self.norms[str(number)](tokens))
        return maps


class _Stage(nn.Module):
    def __init__(self, blocks: Iterable[SwinTransformerBlock], add_and_norm: ResidualNorm) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(block, add_and_norm) for block in blocks)

    def forward(self, tokens: torch.Tensor, stage: StageGeometry) -> torch.Tensor:
        """Map [B, H * W, C] to the same shape. Every second block shifts its windows."""
        added = None
        for number, block in enumerate(self.blocks):
            tokens, added = block(tokens, added, stage, shifted=number % 2)
        return tokens if added is None else tokens + added


class _Block(nn.Module):
    def __init__(self, block: SwinTransformerBlock, add_and_norm: ResidualNorm) -> None:
        super().__init__()
        self._add_and_norm = add_and_norm
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = WindowedAttention(block.attn)
        self.mlp1, self.mlp2 = block.mlp.fc1, block.mlp.fc2

    def forward(
        self, tokens: torch.Tensor, added: torch.Tensor | None, stage: StageGeometry, shifted: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens [B, H * W, C], and the features that remain to be added to them.

        Args:
            tokens: [B, H * W, C].
            added: The features that remain to be added to them; None for nothing.
            stage: The map's windows.
            shifted: 1 for shifted windows, else 0.
        """
        products = stage.mask.dtype
        if added is None:
            normed = self.norm1(tokens).to(products)
        else:
            tokens, normed = self._add_and_norm(tokens, added, self.norm1, products, keeps_sum=True)
        attended = self.attention(normed, stage, shifted)
        tokens, normed = self._add_and_norm(tokens, attended, self.norm2, products, keeps_sum=True)
        return tokens, self.mlp2(functional.gelu(self.mlp1(normed)))


class WindowedAttention(nn.Module):
    """Attention within windows in PyTorch's fused form."""

    def __init__(self, layer: WindowAttention) -> None:
        super().__init__()
        self.qkv, self.proj = layer.qkv, layer.proj
        self._heads, self._scale = layer.num_heads, layer.scale
        self._tokens = layer.window_size[0] * layer.window_size[1]
        table, index = layer.relative_position_bias_table, layer.relative_position_index
        bias = table.detach()[index.flatten()].view(self._tokens, self._tokens, -1).permute(2, 0, 1)
        self.register_buffer("bias", bias.contiguous()[None])

    def forward(self, tokens: torch.Tensor, stage: StageGeometry, shifted: int) -> torch.Tensor:
        """Return attended tokens [B, H * W, C].

        Args:
            tokens: [B, H * W, C].
            stage: The map's windows.
            shifted: 1 for shifted windows, else 0.
        """
        tokens = padded(tokens, stage).index_select(1, stage.order[shifted])
        bias = self.get_buffer("bias")
        if shifted:
            bias = bias + stage.mask
            if len(tokens) > 1:
                bias = bias.repeat(len(tokens), 1, 1, 1)
        qkv = self.qkv(tokens).view(-1, self._tokens, 3, self._heads, self._channels(tokens))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=self._scale
        )
        windows = attended.transpose(1, 2).reshape(tokens.shape)
        projected: torch.Tensor = self.proj(windows.index_select(1, stage.places[shifted]))
        return projected

    def _channels(self, tokens: torch.Tensor) -> int:
        return int(tokens.shape[-1] // self._heads)


class _Merger(nn.Module):
    def __init__(self, merging: PatchMerging) -> None:
        super().__init__()
        self.norm, self.reduction = merging.norm, merging.reduction

    def forward(self, tokens: torch.Tensor, stage: StageGeometry) -> torch.Tensor:
        """Merge each two by two tokens of a map [B, H * W, C] into one with 2 * C channels."""
        hw = stage.hw
        grid = torch.unflatten(tokens, 1, hw)
        if hw[0] % 2 or hw[1] % 2:
            grid = functional.pad(grid, (0, 0, 0, hw[1] % 2, 0, hw[0] % 2))
        batch, height, width, channels = grid.shape
        pairs = grid.view(batch, height // 2, 2, width // 2, 2, channels)
        merged = pairs.permute(0, 1, 3, 4, 2, 5).reshape(batch, -1, 4 * channels)
        reduced: torch.Tensor = self.reduction(self.norm(merged).to(stage.mask.dtype))
        return reduced.to(tokens.dtype)
