"""Names of weights: groundingdino's against those of its port in transformers.

Both hold the same tensors; the port keeps query, key and value apart where groundingdino fuses
them. So one checkpoint serves both engines.
"""

from __future__ import annotations

import re

import torch

from prelabel.engines.checkpoint_layouts import Weights

# Tried from top to bottom on every name, the backbone's apart; all that match apply, in order.
_ENCODER = r"^transformer\.encoder"
_DECODER = r"^transformer\.decoder\.layers\.(\d+)"
_RULES = (
    (_ENCODER + r"\.text_layers\.(\d+)", r"model.encoder.layers.\1.text_enhancer_layer"),
    (_ENCODER + r"\.layers\.(\d+)", r"model.encoder.layers.\1.deformable_layer"),
    (_ENCODER + r"\.fusion_layers\.(\d+)", r"model.encoder.layers.\1.fusion_layer"),
    (r"text_enhancer_layer\.norm1", "text_enhancer_layer.layer_norm_before"),
    (r"text_enhancer_layer\.norm2", "text_enhancer_layer.layer_norm_after"),
    (r"deformable_layer\.norm1", "deformable_layer.self_attn_layer_norm"),
    (r"deformable_layer\.norm2", "deformable_layer.final_layer_norm"),
    (r"_layer\.linear(\d)", r"_layer.fc\1"),
    (r"fusion_layer\.gamma_v", "fusion_layer.vision_param"),
    (r"fusion_layer\.gamma_l", "fusion_layer.text_param"),
    (r"fusion_layer\.layer_norm_v", "fusion_layer.layer_norm_vision"),
    (r"fusion_layer\.layer_norm_l", "fusion_layer.layer_norm_text"),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)v_proj", r"\1vision_proj"),
    (r"(fusion_layer\.attn\.(?:values_|out_)?)l_proj", r"\1text_proj"),
    (_DECODER + r"\.cross_attn\.", r"model.decoder.layers.\1.encoder_attn."),
    (_DECODER + r"\.norm1", r"model.decoder.layers.\1.encoder_attn_layer_norm"),
    (_DECODER + r"\.ca_text\.", r"model.decoder.layers.\1.encoder_attn_text."),
    (_DECODER + r"\.catext_norm", r"model.decoder.layers.\1.encoder_attn_text_layer_norm"),
    (_DECODER + r"\.norm2", r"model.decoder.layers.\1.self_attn_layer_norm"),
    (_DECODER + r"\.norm3", r"model.decoder.layers.\1.final_layer_norm"),
    (_DECODER + r"\.linear(\d)", r"model.decoder.layers.\1.fc\2"),
    (r"^transformer\.decoder\.norm", "model.decoder.layer_norm"),
    (r"^transformer\.decoder\.ref_point_head", "model.decoder.reference_points_head"),
    # One box head, which all decoder layers share.
    (r"^(?:transformer\.decoder\.)?bbox_embed\.\d+", "bbox_embed.0"),
    (r"^transformer\.enc_out_bbox_embed", "model.encoder_output_bbox_embed"),
    (r"^transformer\.tgt_embed", "model.query_position_embeddings"),
    (r"^transformer\.", "model."),
    (r"^feat_map", "model.text_projection"),
    (r"^input_proj", "model.input_proj_vision"),
    (r"^bert\.", "model.text_backbone."),
)
_BACKBONE_RULES = (
    (r"^backbone\.0\.layers", "model.backbone.conv_encoder.model.encoder.layers"),
    (r"^backbone\.0\.", "model.backbone.conv_encoder.model."),
    (r"patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"patch_embed\.norm", "embeddings.norm"),
    (r"model\.norm(\d)", lambda found: f"model.hidden_states_norms.stage{int(found[1]) + 1}"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"attn\.relative_position", "attention.self.relative_position"),
    (r"attn\.qkv", "attention.self.qkv"),
    (r"attn\.proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)
_FUSED = re.compile(r"qkv\.|in_proj_")
_PARTS = ("query.", "key.", "value.")


def port_names(name: str) -> tuple[str, ...]:
    """The port's names for groundingdino's weight: one, or the three that are fused in it."""
    for pattern, replacement in _BACKBONE_RULES if name.startswith("backbone.") else _RULES:
        name = re.sub(pattern, replacement, name)
    if _FUSED.search(name):
        return tuple(_FUSED.sub(part, name) for part in _PARTS)
    return (name,)


def from_port(weights: Weights, wanted: list[str]) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Those of the wanted weights that a port's checkpoint has, and its names that none needs."""
    found: dict[str, torch.Tensor] = {}
    left = set(weights)
    for name in wanted:
        parts = port_names(name)
        if all(part in weights for part in parts):
            found[name] = torch.cat([weights[part] for part in parts])
            left.difference_update(parts)
    return found, left
