"""Losses of masks and of their predicted quality."""

from __future__ import annotations

import torch
from torch.nn import functional

_MARGIN, _MARGIN_PX = 0.15, 4  # around a box: share of its sides, and pixels
_FAR_WEIGHT, _QUALITY_WEIGHT = 0.5, 0.5


def mask_loss(
    logits: torch.Tensor,
    quality: torch.Tensor,
    masks: torch.Tensor,
    valid: torch.Tensor,
    boxes: torch.Tensor,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of a batch and its terms.

    Cross-entropy counts fully near the object and less in the rest of the picture. Dice weighs
    small objects like large ones. The quality is trained to be the mask's IoU.

    Args:
        logits: [B, N, h, w] low-resolution logits.
        quality: [B, N] predicted IoU.
        masks: float [B, N, h, w], the share of each low-resolution cell that the object covers.
        valid: float [B, h, w], 0 in the padding of the picture.
        boxes: [B, N, 4], xyxy of the objects in units of low-resolution cells.
    """
    logits, valid = logits.float(), valid[:, None]
    near = _near(boxes, logits.shape[-1]) * valid
    entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    near_loss = (entropy * near).sum((-1, -2)) / near.sum((-1, -2)).clamp(min=1)
    far_loss = (entropy * (valid - near)).mean((-1, -2))
    probability = logits.sigmoid() * valid
    overlap = (probability * masks).sum((-1, -2))
    dice = 1 - (2 * overlap + 1) / (probability.sum((-1, -2)) + masks.sum((-1, -2)) + 1)
    with torch.no_grad():
        predicted, actual = (logits > 0) & (valid > 0), masks >= 0.5
        union = (predicted | actual).sum((-1, -2)).clamp(min=1)
        iou = (predicted & actual).sum((-1, -2)) / union
    quality_loss = (quality.float() - iou) ** 2
    loss = (
        near_loss.mean()
        + _FAR_WEIGHT * far_loss.mean()
        + dice.mean()
        + _QUALITY_WEIGHT * quality_loss.mean()
    )
    terms = {
        "entropy": float(near_loss.detach().mean()),
        "dice": float(dice.detach().mean()),
        "iou": float(iou.mean()),
    }
    return loss, terms


def _near(boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Return 1 for the cells in or near each box, float [B, N, side, side]."""
    centres = torch.arange(side, device=boxes.device) + 0.5
    x0, y0, x1, y1 = (edge[..., None] for edge in boxes.unbind(-1))
    grow_x, grow_y = (x1 - x0) * _MARGIN + _MARGIN_PX / 2, (y1 - y0) * _MARGIN + _MARGIN_PX / 2
    columns = (centres > x0 - grow_x) & (centres < x1 + grow_x)
    rows = (centres > y0 - grow_y) & (centres < y1 + grow_y)
    return (rows[..., :, None] & columns[..., None, :]).float()
