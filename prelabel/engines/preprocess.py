"""Pictures to model input: the resize rule, and ImageNet's normalisation."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from prelabel.checkpoints.cards import ImageSize
from prelabel.types import ImageRGB

MIN_SIDE = 32  # pixels: one token on the backbone's coarsest level
STRIDES = (8, 16, 32, 64)  # pixels per token, by feature level
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resized_hw(image_hw: tuple[int, int], size: ImageSize, num_queries: int) -> tuple[int, int]:
    """Height and width in pixels that a picture of `image_hw` is resized to.

    The shorter side becomes `shortest_edge`, unless the longer would exceed `longest_edge`
    (`get_size_with_aspect_ratio` of groundingdino/datasets/transforms.py, in transformers' form,
    which keeps the limit to the pixel). Then a side that would vanish is stretched, and so is the
    shorter one until there are as many image tokens as queries, which the model's top-k needs.
    """
    height, width = (max(MIN_SIDE, side) for side in _scaled_hw(image_hw, size))
    while image_tokens((height, width)) < num_queries:
        if height <= width:
            height += MIN_SIDE
        else:
            width += MIN_SIDE
    return height, width


def image_tokens(hw: tuple[int, int]) -> int:
    """Positions on all feature levels for a picture of that size."""
    return sum(-(-hw[0] // stride) * -(-hw[1] // stride) for stride in STRIDES)


def to_pixels(image: ImageRGB, hw: tuple[int, int]) -> torch.Tensor:
    """Resize (bilinear, antialiased): uint8 [H, W, 3], a fourth of what the model computes with."""
    resized = Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures as the backbones want them, where they lie: uint8 [B, H, W, 3] to float32
    [B, 3, H, W].
    """
    planes = pixels.permute(0, 3, 1, 2).contiguous().float()
    mean, std = (torch.tensor(each, device=pixels.device)[:, None, None] for each in (_MEAN, _STD))
    return (planes / 255 - mean) / std


def _scaled_hw(image_hw: tuple[int, int], size: ImageSize) -> tuple[int, int]:
    short, long = min(image_hw), max(image_hw)
    edge = float(size.shortest_edge)
    if long / short * edge > size.longest_edge:
        edge = size.longest_edge * short / long
    short_px, long_px = round(edge), int(edge * long / short)
    return (short_px, long_px) if image_hw[0] <= image_hw[1] else (long_px, short_px)
