"""Pictures to model input: the resize rule, and normalisation by ImageNet's mean and deviation."""

from __future__ import annotations

from functools import cache

import torch

from prelabel.checkpoints.cards import ImageSize
from prelabel.engines.kernels.resize import resize_bilinear
from prelabel.types import ImageRGB

MIN_SIDE = 32  # pixels: the stride of the backbone's coarsest level
STRIDES = (8, 16, 32, 64)  # pixels per token, by feature level
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resized_hw(image_hw: tuple[int, int], size: ImageSize, num_queries: int) -> tuple[int, int]:
    """Return the height and width in pixels to which a picture of `image_hw` is resized.

    The shorter side becomes `shortest_edge`, unless the longer side would exceed `longest_edge`
    (`get_size_with_aspect_ratio` of groundingdino/datasets/transforms.py, in transformers' form,
    which keeps the limit to the pixel). Then a side below `MIN_SIDE` is stretched to it, and the
    shorter side is stretched until there are as many image tokens as queries, because the model
    selects that many tokens (top-k).
    """
    height, width = (max(MIN_SIDE, side) for side in _scaled_hw(image_hw, size))
    while image_tokens((height, width)) < num_queries:
        if height <= width:
            height += MIN_SIDE
        else:
            width += MIN_SIDE
    return height, width


def image_tokens(hw: tuple[int, int]) -> int:
    """Return the number of positions on all feature levels for a resized height and width."""
    return sum(-(-hw[0] // stride) * -(-hw[1] // stride) for stride in STRIDES)


def to_pixels(image: ImageRGB, hw: tuple[int, int]) -> torch.Tensor:
    """Resize a picture as in training, by Pillow's bilinear filter: uint8 [H, W, 3].

    The pixels stay uint8, a quarter of the memory of normalised ones, until they are on the device.
    """
    return torch.from_numpy(resize_bilinear(image, hw))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Normalise pictures on their device: uint8 [B, H, W, 3] to float32 [B, 3, H, W]."""
    planes = pixels.permute(0, 3, 1, 2).contiguous().float()
    mean, std = _statistics(pixels.device)
    return (planes / 255 - mean) / std


@cache
def _statistics(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation [3, 1, 1], copied to a device once, not with each batch."""
    with torch.inference_mode(mode=False):
        mean, std = (torch.tensor(each, device=device)[:, None, None] for each in (_MEAN, _STD))
    return mean, std


def _scaled_hw(image_hw: tuple[int, int], size: ImageSize) -> tuple[int, int]:
    short, long = min(image_hw), max(image_hw)
    edge = float(size.shortest_edge)
    if long / short * edge > size.longest_edge:
        edge = size.longest_edge * short / long
    short_px, long_px = round(edge), int(edge * long / short)
    return (short_px, long_px) if image_hw[0] <= image_hw[1] else (long_px, short_px)
