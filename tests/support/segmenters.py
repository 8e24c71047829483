"""Small SAM and SAM 2 models with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel
from transformers.models.sam.configuration_sam import (
    SamMaskDecoderConfig,
    SamPromptEncoderConfig,
    SamVisionConfig,
)
from transformers.models.sam2.configuration_sam2 import (
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from prelabel.engines.segment_anything.frames import Geometry


def sam_config(
    *, image_size: int = 64, rel_pos: bool = True, window: int = 3, masks: int = 3
) -> SamConfig:
    """A SAM of 32 channels and 8 x 8 tokens; windows of 3 need padding."""
    return SamConfig(
        vision_config=SamVisionConfig(  # type: ignore[call-arg]
            hidden_size=24,
            output_channels=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=image_size,
            patch_size=8,
            window_size=window,
            global_attn_indexes=[1],
            num_pos_feats=16,
            mlp_dim=40,
            use_rel_pos=rel_pos,
            scale=1,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=32, image_size=image_size, patch_size=8
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=32,
            mlp_dim=48,
            num_attention_heads=4,
            iou_head_hidden_dim=16,
            num_multimask_outputs=masks,
        ),
    )


def sam2_config(*, stability: float = 0.98) -> Sam2Config:
    """A SAM 2 of 32 channels and 8 x 8 tokens."""
    return Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=Sam2HieraDetConfig(
                hidden_size=8,
                image_size=[128, 128],
                blocks_per_stage=[1, 1, 2, 1],
                embed_dim_per_stage=[8, 16, 32, 64],
                num_attention_heads_per_stage=[1, 2, 2, 4],
                window_size_per_stage=[8, 4, 4, 2],
                global_attention_blocks=[3],
            ),
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
            fpn_hidden_size=32,
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=128),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32,
            mlp_dim=48,
            num_attention_heads=4,
            iou_head_hidden_dim=16,
            dynamic_multimask_stability_thresh=stability,
        ),
    )


def random_model(config: Any, seed: int = 0) -> Any:
    """Build a model whose weights are random and large enough that every part matters.

    transformers' own initial values are nearly zero for SAM.
    """
    torch.manual_seed(seed)
    model: Any = (SamModel if isinstance(config, SamConfig) else Sam2Model)(config)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.dim() > 1:
                tensor.normal_(0, max(tensor[0].numel(), 4) ** -0.5)
            elif "norm" in name and name.endswith("weight"):
                tensor.normal_(1, 0.2)
            else:
                tensor.normal_(0, 0.2)
        encoders = (model.shared_image_embedding, model.prompt_encoder.shared_embedding)
        for encoder in encoders:
            encoder.positional_embedding.copy_(encoders[0].positional_embedding)
    return model.eval()


def geometry_of(config: Any) -> Geometry:
    """Return the sizes of a model of this module."""
    prompts = config.prompt_encoder_config
    tokens = prompts.image_size // prompts.patch_size
    return Geometry(prompts.image_size, tokens, isinstance(config, SamConfig))
