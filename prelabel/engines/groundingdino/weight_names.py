"""Names of groundingdino's weights, mapped to those of its port in transformers.

Both libraries have the same tensors, but groundingdino fuses query, key and value into one. By this
mapping one checkpoint serves both engines.
"""

from __future__ import annotations

from typing import Final

import torch

from prelabel.engines.checkpoint_layouts import Weights
from prelabel.engines.port_names import FUSION_LAYER_RULES, Rule, renamed, unfused

# For all names outside the backbone. Each rule that matches is applied, from top to bottom.
_ENCODER = r"^transformer\.encoder"
_DECODER = r"^transformer\.decoder\.layers\.(\d+)"
_RULES: Final[tuple[Rule, ...]] = (
    (_ENCODER + r"\.text_layers\.(\d+)", r"model.encoder.layers.\1.text_enhancer_layer"),
    (_ENCODER + r"\.layers\.(\d+)", r"model.encoder.layers.\1.deformable_layer"),
    (_ENCODER + r"\.fusion_layers\.(\d+)", r"model.encoder.layers.\1.fusion_layer"),
    (r"text_enhancer_layer\.norm1", "text_enhancer_layer.layer_norm_before"),
    (r"text_enhancer_layer\.norm2", "text_enhancer_layer.layer_norm_after"),
    (r"deformable_layer\.norm1", "deformable_layer.self_attn_layer_norm"),
    (r"deformable_layer\.norm2", "deformable_layer.final_layer_norm"),
    (r"_layer\.linear(\d)", r"_layer.fc\1"),
    *FUSION_LAYER_RULES,
    (_DECODER + r"\.cross_attn\.", r"model.decoder.layers.\1.encoder_attn."),
    (_DECODER + r"\.norm1", r"model.decoder.layers.\1.encoder_attn_layer_norm"),
    (_DECODER + r"\.ca_text\.", r"model.decoder.layers.\1.encoder_attn_text."),
    (_DECODER + r"\.catext_norm", r"model.decoder.layers.\1.encoder_attn_text_layer_norm"),
    (_DECODER + r"\.norm2", r"model.decoder.layers.\1.self_attn_layer_norm"),
    (_DECODER + r"\.norm3", r"model.decoder.layers.\1.final_layer_norm"),
    (_DECODER + r"\.linear(\d)", r"model.decoder.layers.\1.fc\2"),
    (r"^transformer\.decoder\.norm", "model.decoder.layer_norm"),
    (r"^transformer\.decoder\.ref_point_head", "model.decoder.reference_points_head"),
    # One box head for all layers of the decoder: the port's first.
    (r"^(?:transformer\.decoder\.)?bbox_embed\.\d+", "bbox_embed.0"),
    (r"^transformer\.enc_out_bbox_embed", "model.encoder_output_bbox_embed"),
    (r"^transformer\.tgt_embed", "model.query_position_embeddings"),
    (r"^transformer\.", "model."),
    (r"^feat_map", "model.text_projection"),
    (r"^input_proj", "model.input_proj_vision"),
    (r"^bert\.", "model.text_backbone."),
)
_BACKBONE_RULES: Final[tuple[Rule, ...]] = (
    (r"^backbone\.0\.layers", "model.backbone.conv_encoder.model.encoder.layers"),
    (r"^backbone\.0\.", "model.backbone.conv_encoder.model."),
    (r"patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"patch_embed\.norm", "embeddings.norm"),
    (r"model\.norm(\d)", lambda match: f"model.hidden_states_norms.stage{int(match[1]) + 1}"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"attn\.relative_position", "attention.self.relative_position"),
    (r"attn\.qkv", "attention.self.qkv"),
    (r"attn\.proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)


def port_names(name: str) -> tuple[str, ...]:
    """Return the port's names for a weight of groundingdino: one, or three that it fuses."""
    return unfused(renamed(name, _BACKBONE_RULES if name.startswith("backbone.") else _RULES))


def from_port(weights: Weights, names: list[str]) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Convert weights of the port to groundingdino's.

    Args:
        weights: The port's weights by name.
        names: Names of the weights that the network of groundingdino has.

    Returns:
        The weights of these names as far as the port has them, and the port's names that are left
        over.
    """
    converted: dict[str, torch.Tensor] = {}
    left = set(weights)
    for name in names:
        parts = port_names(name)
        if all(part in weights for part in parts):
            converted[name] = torch.cat([weights[part] for part in parts])
            left.difference_update(parts)
    return converted, left
