"""The small segmenter: a SAM of 1.8 million parameters, and its initial weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import SamConfig, SamModel
from transformers.models.sam.configuration_sam import (
    SamMaskDecoderConfig,
    SamPromptEncoderConfig,
    SamVisionConfig,
)
from transformers.models.sam.modeling_sam import SamPositionalEmbedding
from transformers.utils import logging

PATCH_PX = 8
_WIDTH = 128  # channels of the image encoder and of the mask decoder
_LAYERS, _GLOBAL_LAYERS = 5, [2]
_WAVES = (0.1, 8.0)  # least and most waves of the position encoding over half a picture
_CROSS_ATTENTION = (
    "cross_attn_token_to_image",
    "cross_attn_image_to_token",
    "final_attn_token_to_image",
)
_POSITIONS_KEY = "vision_encoder.pos_embed"


def segmenter_config(size: int) -> SamConfig:
    """Return the config of a segmenter for pictures of `size` by `size` pixels."""
    return SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=_WIDTH,
            output_channels=_WIDTH,
            num_hidden_layers=_LAYERS,
            num_attention_heads=4,
            image_size=size,
            patch_size=PATCH_PX,
            window_size=8,
            global_attn_indexes=_GLOBAL_LAYERS,
            num_pos_feats=_WIDTH // 2,
            mlp_ratio=3.0,
            initializer_range=0.02,
            use_rel_pos=False,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=_WIDTH, image_size=size, patch_size=PATCH_PX
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=_WIDTH,
            mlp_dim=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            attention_downsample_rate=1,
            num_multimask_outputs=1,
            iou_head_hidden_dim=64,
            iou_head_depth=3,
        ),
    )


def image_size(model: SamModel) -> int:
    """Return the side in pixels of a model's square input."""
    vision = model.config.vision_config
    assert isinstance(vision, SamVisionConfig)
    assert isinstance(vision.image_size, int)
    return vision.image_size


def build_segmenter(size: int, seed: int) -> SamModel:
    """Build the untrained segmenter for pictures of `size` pixels."""
    torch.manual_seed(seed)
    model = SamModel(segmenter_config(size))
    with torch.no_grad():
        _initialise(model)
    return _trainable(model)


def load_segmenter(folder: Path, size: int) -> SamModel:
    """Load a segmenter of any size and change it to pictures of `size` pixels."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return resized(SamModel.from_pretrained(folder, dtype=torch.float32), size)


def resized(model: SamModel, size: int) -> SamModel:
    """Return a copy of a model for pictures of another size: position embeddings are resampled."""
    copy = SamModel(segmenter_config(size))
    state = dict(model.state_dict())
    positions, side = state[_POSITIONS_KEY], size // PATCH_PX
    if positions.shape[1] != side:
        planes = functional.interpolate(positions.permute(0, 3, 1, 2), (side, side), mode="bicubic")
        state[_POSITIONS_KEY] = planes.permute(0, 2, 3, 1).contiguous()
    copy.load_state_dict(state)
    return _trainable(copy)


def save_segmenter(model: SamModel, folder: Path) -> None:
    """Write a folder that transformers loads: config.json, and weights in float16."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    copy = SamModel(model.config)
    copy.load_state_dict(model.state_dict())
    nn.Module.half(copy)  # transformers' own `half` is not typed
    copy.save_pretrained(folder)


def _initialise(model: SamModel) -> None:
    """Choose initial weights with which prompts and image tokens interact from the first step.

    transformers' own initial values (`initializer_range` of 1e-10, and a position encoding scaled
    by half the width) are meant to be overwritten: a model that starts with them ignores its
    prompts for ever. Weights of unit gain, an axis-aligned position encoding, and equal query and
    key projections in cross-attention together break that within 200 steps.
    """
    low, high = _WAVES
    half = _WIDTH // 4  # half of the waves lie along x, half along y
    waves = low * (high / low) ** torch.linspace(0, 1, half)
    encoding = torch.zeros(2, 2 * half)
    encoding[0, :half] = waves
    encoding[1, half:] = waves
    model.shared_image_embedding.positional_embedding.copy_(encoding)
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(encoding)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            fan_in = module.weight[0].numel()
            if isinstance(module, nn.ConvTranspose2d):
                fan_in = module.weight.shape[0]
            gain = 0.5 if name.endswith(("out_proj", "lin2", "attn.proj")) else 1.0
            module.weight.normal_(0, gain * fan_in**-0.5)
            if module.bias is not None:
                module.bias.zero_()
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("point_embed", "mask_tokens", "iou_token")):
            parameter.normal_(0, 0.7)
        elif "no_mask_embed" in name:
            parameter.zero_()
        elif name == _POSITIONS_KEY:
            parameter.normal_(0, 0.1)
    for name, module in model.mask_decoder.named_modules():
        if name.endswith(_CROSS_ATTENTION):
            query, key = module.get_submodule("q_proj"), module.get_submodule("k_proj")
            assert isinstance(query, nn.Linear)
            assert isinstance(key, nn.Linear)
            query.weight.mul_(1.6)
            key.weight.copy_(query.weight)


class _ExactPositions(nn.Module):
    """Position encoding outside of autocast, because bfloat16 would round coordinates."""

    def __init__(self, plain: SamPositionalEmbedding) -> None:
        super().__init__()
        self.positional_embedding = plain.positional_embedding
        self.positional_embedding.requires_grad_(False)
        self._plain = [plain]  # in a list, so that it is no submodule

    def forward(
        self, coordinates: torch.Tensor, input_shape: tuple[int, int] | None = None
    ) -> torch.Tensor:
        with torch.autocast(coordinates.device.type, enabled=False):
            encoded: torch.Tensor = self._plain[0](coordinates, input_shape)
        return encoded


def _trainable(model: SamModel) -> SamModel:
    for name in ("shared_image_embedding", "prompt_encoder.shared_embedding"):
        plain = model.get_submodule(name)
        assert isinstance(plain, SamPositionalEmbedding)
        model.set_submodule(name, _ExactPositions(plain))
    for module in model.mask_decoder.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            config._attn_implementation = "eager"  # faster on a CPU for few tokens
    model.train()
    return model
