"""The encoder: each layer lets picture and text attend to each other, then each to itself.

The picture's features are multiplied with weights in the products' format. All else is computed in
full precision, as are the offsets and weights of sampling points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from groundingdino.models.GroundingDINO.fuse_modules import BiAttentionBlock, BiMultiHeadAttention
from groundingdino.models.GroundingDINO.transformer import (
    DeformableTransformerEncoderLayer,
    TransformerEncoder,
)
from groundingdino.models.GroundingDINO.transformer_vanilla import TransformerEncoderLayer
from torch import nn
from torch.nn import functional

from prelabel.engines.groundingdino.geometry import Geometry
from prelabel.engines.groundingdino.layers import Attention, FeedForward
from prelabel.engines.kernels.bi_attention import BiAttention
from prelabel.engines.kernels.deformable_attention import DeformableAttention, Sampler
from prelabel.engines.kernels.residual_norm import ResidualNorm


@dataclass(frozen=True, slots=True)
class Text:
    """The captions of a batch. B captions of up to T tokens.

    Attributes:
        features: [B, T, D].
        positions: [B, T, D], embeddings of the tokens' positions in their phrases.
        token_mask: bool [B, T], False for padding.
        attention: bool [B, 1, T, T], True where a token attends to another.
    """

    features: torch.Tensor
    positions: torch.Tensor
    token_mask: torch.Tensor
    attention: torch.Tensor

    def padded(self, multiple: int) -> Text:
        """Return captions of a multiple of that many tokens. Padding attends to itself alone."""
        tokens = self.token_mask.shape[1]
        more = -tokens % multiple
        if more == 0:
            return self
        attention = functional.pad(self.attention, (0, more, 0, more))
        itself = torch.eye(tokens + more, dtype=torch.bool, device=attention.device)
        return Text(
            functional.pad(self.features, (0, 0, 0, more)),
            functional.pad(self.positions, (0, 0, 0, more)),
            functional.pad(self.token_mask, (0, more)),
            attention | itself,
        )

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The arguments of a copy."""
        return self.features, self.positions, self.token_mask, self.attention


class Encoder(nn.Module):
    """The library's encoder for pictures without padding.

    Args:
        encoder: The library's encoder with its weights.
        sampler: Samples the values of deformable attention.
        add_and_norm: Adds features up and norms them.
    """

    def __init__(
        self, encoder: TransformerEncoder, sampler: Sampler, add_and_norm: ResidualNorm
    ) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(_Fusion(layer) for layer in encoder.fusion_layers)
        self.text_layers = nn.ModuleList(_TextLayer(layer) for layer in encoder.text_layers)
        self.layers = nn.ModuleList(
            _ImageLayer(layer, sampler, add_and_norm) for layer in encoder.layers
        )

    def forward(
        self, image: torch.Tensor, text: Text, geometry: Geometry
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoded picture [B, S, D] and text [B, T, D].

        Args:
            image: [B, S, D], features of all levels.
            text: The captions.
            geometry: That of the pictures' size.
        """
        features, padding = text.features, ~text.token_mask
        for fusion, text_layer, layer in zip(
            self.fusions, self.text_layers, self.layers, strict=True
        ):
            image, features = fusion(image, features, padding)
            features = text_layer(features, text)
            image = layer(image, geometry)
        return image, features


class _Fusion(nn.Module):
    def __init__(self, layer: BiAttentionBlock) -> None:
        super().__init__()
        self.norm_image, self.norm_text = layer.layer_norm_v, layer.layer_norm_l
        self.attention = bi_attention(layer.attn)
        self.scale_image, self.scale_text = layer.gamma_v, layer.gamma_l

    def forward(
        self, image: torch.Tensor, text: torch.Tensor, padding: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, text = self.norm_image(image), self.norm_text(text)
        to_image, to_text = self.attention.attend(image, text, padding)
        return (
            torch.addcmul(image, self.scale_image, to_image),
            torch.addcmul(text, self.scale_text, to_text),
        )


def bi_attention(layer: BiMultiHeadAttention) -> BiAttention:
    """Return the faster form of the library's layer."""
    return BiAttention(
        layer.num_heads,
        image_query=layer.v_proj,
        image_value=layer.values_v_proj,
        image_out=layer.out_v_proj,
        text_key=layer.l_proj,
        text_value=layer.values_l_proj,
        text_out=layer.out_l_proj,
    )


class _TextLayer(nn.Module):
    def __init__(self, layer: TransformerEncoderLayer) -> None:
        super().__init__()
        self.attention = Attention(layer.self_attn)
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.feed_forward = FeedForward(layer.linear1, layer.linear2)

    def forward(self, features: torch.Tensor, text: Text) -> torch.Tensor:
        attended = self.attention(features + text.positions, features, text.attention)
        features = self.norm1(features + attended)
        normed: torch.Tensor = self.norm2(features + self.feed_forward(features))
        return normed


class _ImageLayer(nn.Module):
    def __init__(
        self,
        layer: DeformableTransformerEncoderLayer,
        sampler: Sampler,
        add_and_norm: ResidualNorm,
    ) -> None:
        super().__init__()
        self._add_and_norm = add_and_norm
        attention = layer.self_attn
        self.attention = DeformableAttention(
            attention, attention.num_heads, attention.num_levels, sampler
        ).merged()
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.feed_forward = FeedForward(layer.linear1, layer.linear2)

    def forward(self, image: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        products = geometry.products
        attended = self.attention.attend(
            image + geometry.positions,
            image.to(products),
            geometry.references.expand(len(image), -1, -1, -1),
            geometry.levels_hw,
        )
        image, narrow = self._add_and_norm(image, attended, self.norm1, products, keeps_sum=False)
        mapped = self.feed_forward(narrow)
        image, _ = self._add_and_norm(image, mapped, self.norm2, products, keeps_sum=False)
        return image
