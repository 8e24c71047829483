"""A residual sum and the layer norm of it, in one step on a GPU.

PyTorch runs three kernels for it, each of which reads and writes all features: the sum, the norm,
and the conversion for the next product.
"""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import nn

from prelabel.engines.device import Placement

logger = logging.getLogger(__name__)
_TOLERANCE = 5e-3  # of normed numbers in half precision


class ResidualNorm(Protocol):
    """A function that adds features up and norms the sum."""

    def __call__(
        self,
        features: torch.Tensor,
        added: torch.Tensor,
        norm: nn.LayerNorm,
        dtype: torch.dtype,
        *,
        keeps_sum: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum, or the norm of it, and the norm of it in another number format.

        Args:
            features: [..., C], in full precision, as is the first result.
            added: [..., C], in any number format.
            norm: The layer norm over C.
            dtype: Number format of the second result.
            keeps_sum: The first result is the sum, else the norm of it.
        """


def residual_norm(
    features: torch.Tensor,
    added: torch.Tensor,
    norm: nn.LayerNorm,
    dtype: torch.dtype,
    *,
    keeps_sum: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add and norm in PyTorch, on any device: a `ResidualNorm`."""
    summed = features + added
    normed = norm(summed)
    return summed if keeps_sum else normed, normed.to(dtype)


def choose_residual_norm(placement: Placement) -> ResidualNorm:
    """Return the fastest function that is correct on a device."""
    if placement.device.type != "cuda" or not placement.is_reduced:
        return residual_norm
    try:
        from prelabel.engines.kernels.residual_norm_triton import residual_norm_by_triton

        off_by = _furthest(residual_norm_by_triton, placement)
        if off_by < _TOLERANCE:
            return residual_norm_by_triton
        fault = f"it is off by {off_by:.2g}"
    except Exception as error:  # noqa: BLE001  # the edge: compilers and drivers raise any type
        fault = f"{type(error).__name__}: {error}"
    logger.warning("The GPU norms features in PyTorch, because Triton's kernel failed: %s", fault)
    return residual_norm


def _furthest(function: ResidualNorm, placement: Placement) -> float:
    """Return how far results are from PyTorch's, for the widths of usual backbones."""
    numbers = torch.Generator().manual_seed(0)
    furthest = 0.0
    for width in (96, 256, 768):
        features, added = (torch.randn(5, 7, width, generator=numbers) for _ in range(2))
        features = features.to(placement.device)
        added = added.to(placement.device, placement.products)
        norm = nn.LayerNorm(width).to(placement.device)
        nn.init.normal_(norm.bias)
        for keeps_sum in (True, False):
            found, expected = (
                each(features, added, norm, placement.products, keeps_sum=keeps_sum)
                for each in (function, residual_norm)
            )
            for one, other in zip(found, expected, strict=True):
                furthest = max(furthest, float((one.float() - other.float()).abs().max()))
    return furthest
