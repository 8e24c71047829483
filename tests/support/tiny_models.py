"""Small random models in the structure of the published ones, and MMDetection's names."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    PreTrainedModel,
    SwinConfig,
)

from prelabel.checkpoints.cards import ImageSize, ModelCard, ModelFile, model_folder
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from prelabel.types import ImageRGB, RawDetections

# Differences between the sizes of MM-Grounding-DINO and LLMDet, from
# get_mm_grounding_dino_config of transformers' convert_mm_grounding_dino_to_hf.py: window, stages
# of the backbone that are used, and feature levels.
TINY = {"window": 7, "stages": (2, 3, 4), "levels": 4}
BASE = {"window": 12, "stages": (2, 3, 4), "levels": 4}
LARGE = {"window": 12, "stages": (1, 2, 3, 4), "levels": 5}
PHRASES = ("red circle", "blue square", "cat")


def random_model(structure: dict[str, Any], *, mm: bool = True, **more: Any) -> PreTrainedModel:
    """Return a model whose heads and layer norms all differ, so that a mix-up shows."""
    torch.manual_seed(0)
    swin = SwinConfig(  # type: ignore[call-arg]
        image_size=32 * structure["window"],
        window_size=structure["window"],
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        out_features=[f"stage{stage}" for stage in structure["stages"]],
    )
    text = BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=48
    )
    sizes = {
        "backbone_config": swin,
        "text_config": text,
        "num_feature_levels": structure["levels"],
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 56,
        "num_queries": 20,
    }
    model: PreTrainedModel
    if mm:
        config = MMGroundingDinoConfig(**sizes, **more)
        model = MMGroundingDinoForObjectDetection(config)
    else:
        model = GroundingDinoForObjectDetection(GroundingDinoConfig(**sizes, **more))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2 or "bbox_embed" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()  # type: ignore[no-any-return, no-untyped-call]


SEPARATE = {"decoder_bbox_embed_share": False, "decoder_cls_embed_share": False}


def card_of(folder: Path, **fields: object) -> ModelCard:
    """A user's own card for the one checkpoint in that folder."""
    suffixes = (".pth", ".bin", ".safetensors")
    weights = next(path.name for path in folder.iterdir() if path.suffix in suffixes)
    card: dict[str, object] = {
        "name": "own",
        "title": "own",
        "engine": "huggingface",
        "source": "local",
        "folder": folder,
        "files": [ModelFile(path=weights)],
        "weights": weights,
        "text_encoder": "bert-base-uncased",
        "image_size": ImageSize(shortest_edge=112, longest_edge=224),
        "licence": "none",
    }
    return ModelCard.model_validate(card | fields)


def load(card: ModelCard) -> AnyEngine:
    return load_engine(card, model_folder(card, "models"), device="cpu", precision="float64")


def answer(engine: AnyEngine, image: ImageRGB) -> RawDetections:
    (raw,) = engine.detect(engine.prepare(image, PHRASES))
    return raw


# The port's names to MMDetection's, the other way round from the script's mapping.
_TO_MMDETECTION = (
    (r"^model\.backbone\.conv_encoder\.model\.", "backbone."),
    (r"^backbone\.embeddings\.patch_embeddings", "backbone.patch_embed"),
    (r"^backbone\.embeddings\.norm", "backbone.patch_embed.norm"),
    (r"^backbone\.encoder\.layers", "backbone.stages"),
    (r"hidden_states_norms\.stage(\d)", lambda found: f"norm{int(found[1]) - 1}"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"(blocks\.\d+)\.attention\.self\.", r"\1.attn.w_msa."),
    (r"(blocks\.\d+)\.attention\.output\.dense", r"\1.attn.w_msa.proj"),
    (r"(blocks\.\d+)\.intermediate\.dense", r"\1.ffn.layers.0.0"),
    (r"(blocks\.\d+)\.output\.dense", r"\1.ffn.layers.1"),
    (r"^model\.text_backbone", "language_model.language_backbone.body.model"),
    (r"^model\.text_projection", "text_feat_map"),
    (r"^model\.level_embed", "level_embed"),
    (r"^model\.query_position_embeddings", "query_embedding"),
    (r"^model\.enc_output_norm", "memory_trans_norm"),
    (r"^model\.enc_output", "memory_trans_fc"),
    (r"^model\.encoder\.layers\.(\d+)\.fusion_layer", r"encoder.fusion_layers.\1"),
    (r"vision_param", "gamma_v"),
    (r"text_param", "gamma_l"),
    (r"layer_norm_vision", "layer_norm_v"),
    (r"layer_norm_text", "layer_norm_l"),
    (r"vision_proj", "v_proj"),
    (r"text_proj\.", "l_proj."),
    (r"^model\.encoder\.layers\.(\d+)\.text_enhancer_layer", r"encoder.text_layers.\1"),
    (r"layer_norm_before", "norms.0"),
    (r"layer_norm_after", "norms.1"),
    (r"^model\.encoder\.layers\.(\d+)\.deformable_layer", r"encoder.layers.\1"),
    (r"^(encoder.*)self_attn_layer_norm", r"\1norms.0"),
    (r"^(encoder.*)final_layer_norm", r"\1norms.1"),
    (r"^model\.decoder\.layer_norm", "decoder.norm"),
    (r"^model\.decoder\.reference_points_head", "decoder.ref_point_head"),
    (r"^model\.decoder\.layers", "decoder.layers"),
    (r"^(decoder.*)self_attn_layer_norm", r"\1norms.0"),
    (r"^(decoder.*)encoder_attn_text_layer_norm", r"\1norms.1"),
    (r"^(decoder.*)encoder_attn_layer_norm", r"\1norms.2"),
    (r"^(decoder.*)final_layer_norm", r"\1norms.3"),
    (r"encoder_attn_text\.", "cross_attn_text.attn."),
    (r"encoder_attn\.", "cross_attn."),
    (r"^((?:encoder\.text|decoder\.)\S*self_attn)\.", r"\1.attn."),
    (r"\.fc1\.", ".ffn.layers.0.0."),
    (r"\.fc2\.", ".ffn.layers.1."),
)


def to_mmdetection(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The model's weights as MMDetection saves them."""
    config = model.config
    backbone_levels = len(config.backbone_config.out_features)
    fused: dict[str, dict[str, torch.Tensor]] = {}
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in saved_weights(model).items():
        for pattern, replacement in _TO_MMDETECTION:
            name = re.sub(pattern, replacement, name)
        name = _neck(_head(name, config.decoder_layers), backbone_levels)
        if ".downsample." in name:
            tensor = unfold_order(tensor)
        if found := re.match(r"(.*(?:w_msa|\.attn))\.(query|key|value)\.(weight|bias)$", name):
            middle = "qkv." if "w_msa" in name else "in_proj_"
            fused.setdefault(f"{found[1]}.{middle}{found[3]}", {})[found[2]] = tensor
        else:
            weights[name] = tensor
    for name, parts in fused.items():
        weights[name] = torch.cat([parts["query"], parts["key"], parts["value"]])
    return weights


def saved_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """With the names of transformers' files, which are not those of its modules."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights: dict[str, torch.Tensor] = load_file(Path(folder) / "model.safetensors")
    return {name: value for name, value in weights.items() if "swin.layernorm" not in name}


def unfold_order(merged: torch.Tensor) -> torch.Tensor:
    """Swin's order of merged patches [..., column, row, C] to that of nn.Unfold [..., C, row,
    column].
    """
    by_pixel = merged.reshape(*merged.shape[:-1], 2, 2, -1)
    return by_pixel.movedim((-3, -2, -1), (-1, -2, -3)).reshape(merged.shape).contiguous()


def _head(name: str, decoder_layers: int) -> str:
    name = re.sub(r"^model\.encoder_output_(\w+)_embed", rf"\1_embed.{decoder_layers}", name)
    name = re.sub(r"^class_embed\.(\d+)", r"bbox_head.cls_branches.\1", name)
    return re.sub(
        r"^bbox_embed\.(\d+)\.layers\.(\d+)",
        lambda found: f"bbox_head.reg_branches.{found[1]}.{int(found[2]) * 2}",
        name,
    )


def _neck(name: str, backbone_levels: int) -> str:
    found = re.match(r"model\.input_proj_vision\.(\d+)\.(\d)\.(.*)", name)
    if not found:
        return name
    level, part = int(found[1]), "gn" if found[2] == "1" else "conv"
    if level < backbone_levels:
        return f"neck.convs.{level}.{part}.{found[3]}"
    return f"neck.extra_convs.{level - backbone_levels}.{part}.{found[3]}"
