"""MMDetection's checkpoints of Grounding DINO, MM-Grounding-DINO and LLMDet, converted to the port.

Names, and the two differences in content, follow transformers' convert_mm_grounding_dino_to_hf.py:
MMDetection fuses query, key and value, and merges patches in the order of torch.nn.Unfold. The
config is derived from the shapes, so that a card needs no config.json.
"""

from __future__ import annotations

import math
import re
from typing import Final

import torch
from transformers import BertConfig, GroundingDinoConfig, MMGroundingDinoConfig, SwinConfig

from prelabel.engines.checkpoint_layouts import Weights
from prelabel.engines.port_names import FUSION_LAYER_RULES, Rule, renamed, unfused
from prelabel.errors import ModelError

# Weights that only training uses: denoising queries, and the language model that supervised LLMDet.
_TRAINING: Final = re.compile(
    r"^(?:dn_query_generator|lmm|connector|region_connector|image_seperate|ref_point_head)\."
)
_BACKBONE: Final = "model.backbone.conv_encoder.model"
_ENCODER: Final = r"model.encoder.layers.\1"
# Each rule that matches a name is applied, from top to bottom.
_RULES: Final[tuple[Rule, ...]] = (
    (r"^backbone\.patch_embed\.projection", f"{_BACKBONE}.embeddings.patch_embeddings.projection"),
    (r"^backbone\.patch_embed\.norm", f"{_BACKBONE}.embeddings.norm"),
    (r"^backbone\.norm(\d+)", lambda match: _norm_name(int(match[1]))),
    (r"^backbone\.stages\.(\d+)\.(blocks|downsample)", rf"{_BACKBONE}.encoder.layers.\1.\2"),
    (r"(blocks\.\d+)\.attn\.w_msa\.(relative|qkv)", r"\1.attention.self.\2"),
    (r"(blocks\.\d+)\.attn\.w_msa\.proj", r"\1.attention.output.dense"),
    (r"(blocks\.\d+)\.norm1", r"\1.layernorm_before"),
    (r"(blocks\.\d+)\.norm2", r"\1.layernorm_after"),
    (r"(blocks\.\d+)\.ffn\.layers\.0\.0", r"\1.intermediate.dense"),
    (r"(blocks\.\d+)\.ffn\.layers\.1", r"\1.output.dense"),
    (r"^neck\.convs\.(\d+)\.conv", r"model.input_proj_vision.\1.0"),
    (r"^neck\.convs\.(\d+)\.gn", r"model.input_proj_vision.\1.1"),
    (r"^language_model\.language_backbone\.body\.model", "model.text_backbone"),
    (r"^text_feat_map", "model.text_projection"),
    (r"^level_embed", "model.level_embed"),
    (r"^query_embedding", "model.query_position_embeddings"),
    (r"^memory_trans_fc", "model.enc_output"),
    (r"^memory_trans_norm", "model.enc_output_norm"),
    (r"^encoder\.fusion_layers\.(\d+)", rf"{_ENCODER}.fusion_layer"),
    *FUSION_LAYER_RULES,
    (r"^encoder\.text_layers\.(\d+)", rf"{_ENCODER}.text_enhancer_layer"),
    (r"text_enhancer_layer\.norms\.0", "text_enhancer_layer.layer_norm_before"),
    (r"text_enhancer_layer\.norms\.1", "text_enhancer_layer.layer_norm_after"),
    (r"^encoder\.layers\.(\d+)", rf"{_ENCODER}.deformable_layer"),
    (r"deformable_layer\.norms\.0", "deformable_layer.self_attn_layer_norm"),
    (r"deformable_layer\.norms\.1", "deformable_layer.final_layer_norm"),
    (r"^decoder\.norm", "model.decoder.layer_norm"),
    (r"^decoder\.ref_point_head", "model.decoder.reference_points_head"),
    (r"^decoder\.layers\.(\d+)", r"model.decoder.layers.\1"),
    (r"(decoder\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"(decoder\.layers\.\d+)\.cross_attn_text\.", r"\1.encoder_attn_text."),
    (r"(decoder\.layers\.\d+)\.norms\.0", r"\1.self_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norms\.1", r"\1.encoder_attn_text_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norms\.2", r"\1.encoder_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norms\.3", r"\1.final_layer_norm"),
    (r"\.ffn\.layers\.0\.0", ".fc1"),
    (r"\.ffn\.layers\.1", ".fc2"),
    (r"(self_attn|encoder_attn_text)\.attn\.", r"\1."),
)
_EXTRA_CONV: Final = re.compile(r"^neck\.extra_convs\.(\d+)")
_HEAD: Final = re.compile(r"^bbox_head\.(cls|reg)_branches\.(\d+)\.(?:(\d+)\.)?(weight|bias)$")
# Sizes that no shape reveals; they are the same in all of MMDetection's configs.
_HEADS: Final = 8
_BERT_HEAD_WIDTH: Final = 64


def to_port(weights: Weights) -> dict[str, torch.Tensor]:
    """Return the weights with the port's names and order, without those of training."""
    levels = _count(weights, r"neck\.convs\.(\d+)\.")
    decoder_layers = _count(weights, r"decoder\.layers\.(\d+)\.")
    port: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if not _TRAINING.match(name):
            # The port counts the extra levels behind the backbone's.
            numbered = _EXTRA_CONV.sub(lambda match: f"neck.convs.{levels + int(match[1])}", name)
            named = _HEAD.sub(lambda match: _head_name(match, decoder_layers), numbered)
            port |= _split(renamed(named, _RULES), _in_port_order(name, tensor))
    return port


def config_of(weights: Weights) -> GroundingDinoConfig | MMGroundingDinoConfig:
    """Derive the config from the shapes of weights with MMDetection's names.

    Raises:
        ModelError: A weight whose shape is needed is missing.
    """
    # MM-Grounding-DINO and LLMDet learn a bias of the class heads; Grounding DINO has none.
    is_mm = "bbox_head.cls_branches.0.bias" in weights
    try:
        sizes = _sizes(weights)
    except KeyError as error:
        raise ModelError(
            f"The checkpoint is of MMDetection, but lacks {error.args[0]}. Save the whole model."
        ) from error
    kind = MMGroundingDinoConfig if is_mm else GroundingDinoConfig
    config: GroundingDinoConfig | MMGroundingDinoConfig = kind.from_dict(sizes)
    return config


def _sizes(weights: Weights) -> dict[str, object]:
    levels = len(weights["level_embed"])

    def points(layer: str) -> int:
        offsets = weights[f"{layer}.sampling_offsets.bias"]
        return len(offsets) // (_HEADS * levels * 2)

    return {
        "backbone_config": _swin(weights),
        "text_config": _bert(weights),
        "d_model": weights["text_feat_map.weight"].shape[0],
        "num_queries": weights["query_embedding.weight"].shape[0],
        "num_feature_levels": levels,
        "encoder_layers": _count(weights, r"encoder\.layers\.(\d+)\."),
        "decoder_layers": _count(weights, r"decoder\.layers\.(\d+)\."),
        "encoder_ffn_dim": len(weights["encoder.layers.0.ffn.layers.0.0.bias"]),
        "decoder_ffn_dim": len(weights["decoder.layers.0.ffn.layers.0.0.bias"]),
        "encoder_attention_heads": _HEADS,
        "decoder_attention_heads": _HEADS,
        "encoder_n_points": points("encoder.layers.0.self_attn"),
        "decoder_n_points": points("decoder.layers.0.cross_attn"),
    }


def _swin(weights: Weights) -> SwinConfig:
    stages = range(_count(weights, r"backbone\.stages\.(\d+)\."))
    tables = [
        weights[f"backbone.stages.{stage}.blocks.0.attn.w_msa.relative_position_bias_table"]
        for stage in stages
    ]
    # A bias table has a row for each offset between two tokens of a window: (2 * window - 1) ** 2.
    window = (math.isqrt(len(tables[0])) + 1) // 2
    norms = {match[1] for name in weights if (match := re.match(r"backbone\.norm(\d)\.", name))}
    depths = [_count(weights, rf"backbone\.stages\.{stage}\.blocks\.(\d+)\.") for stage in stages]
    sizes = {
        "image_size": 32 * window,
        "window_size": window,
        "embed_dim": len(weights["backbone.patch_embed.projection.bias"]),
        "depths": depths,
        "num_heads": [table.shape[1] for table in tables],
        "out_features": [f"stage{int(norm) + 1}" for norm in sorted(norms)],
    }
    config: SwinConfig = SwinConfig.from_dict(sizes)
    return config


def _bert(weights: Weights) -> BertConfig:
    body = "language_model.language_backbone.body.model"
    vocabulary, width = weights[f"{body}.embeddings.word_embeddings.weight"].shape
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=_count(weights, rf"{re.escape(body)}\.encoder\.layer\.(\d+)\."),
        num_attention_heads=max(width // _BERT_HEAD_WIDTH, 1),
        intermediate_size=len(weights[f"{body}.encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=len(weights[f"{body}.embeddings.position_embeddings.weight"]),
        type_vocab_size=len(weights[f"{body}.embeddings.token_type_embeddings.weight"]),
    )


def _count(weights: Weights, pattern: str) -> int:
    """Return the number of different indices at the pattern's group among the names."""
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def _norm_name(stage: int) -> str:
    # transformers counts the stages from 1.
    return f"{_BACKBONE}.hidden_states_norms.stage{stage + 1}"


def _head_name(match: re.Match[str], decoder_layers: int) -> str:
    """Return the port's name of a head's weight.

    There is a head for each layer of the decoder, then one for the encoder. A box head has three
    linear layers with an activation after each; MMDetection numbers the activations as well.
    """
    kind, layer, step, parameter = match.groups()
    name = "class_embed" if kind == "cls" else "bbox_embed"
    layers = f".layers.{int(step) // 2}" if step else ""
    if int(layer) >= decoder_layers:
        return f"model.encoder_output_{name}{layers}.{parameter}"
    return f"{name}.{layer}{layers}.{parameter}"


def _split(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the weight by name, or query, key and value if it fuses them."""
    names = unfused(name)
    return dict(zip(names, tensor.chunk(3) if len(names) > 1 else (tensor,), strict=True))


def _in_port_order(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Reorder the inputs of a layer that merges patches.

    They are four pixels times C channels. In nn.Unfold the pixels vary fastest, row by row; in the
    port the channels vary fastest, and the pixels go column by column.
    """
    if ".downsample." in name:
        pixels_last = tensor.reshape(*tensor.shape[:-1], -1, 2, 2)
        return pixels_last.movedim((-1, -2, -3), (-3, -2, -1)).reshape(tensor.shape)
    # A class head's bias has one dimension in MMDetection, and none in the port.
    return tensor.squeeze() if _HEAD.match(name) and tensor.numel() == 1 else tensor
