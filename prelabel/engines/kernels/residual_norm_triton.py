"""A residual sum and its layer norm on a GPU in one pass over the features.

Only `residual_norm.py` imports this module, if there is a GPU (or Triton's interpreter, in tests).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import nn

_FLOATS_OF_A_WARP = 256


@triton.jit  # type: ignore[untyped-decorator]
def _add_and_norm(  # type: ignore[no-untyped-def]  # Triton's language, not Python
    features,  # float32 [R, C]
    added,  # [R, C]
    weight,  # [C]
    bias,  # [C]
    kept,  # float32 [R, C]
    normed,  # [R, C]
    epsilon,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,  # WIDTH rounded up to a power of two
    KEEPS_SUM: tl.constexpr,
):
    """Add and norm one row."""
    channel = tl.arange(0, BLOCK)
    own = channel < WIDTH
    place = tl.program_id(0).to(tl.int64) * WIDTH + channel
    summed = tl.load(features + place, mask=own, other=0.0).to(tl.float32)
    summed += tl.load(added + place, mask=own, other=0.0).to(tl.float32)
    mean = tl.sum(summed, axis=0) / WIDTH
    centred = tl.where(own, summed - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / WIDTH
    scaled = centred / tl.sqrt(variance + epsilon)
    result = scaled * tl.load(weight + channel, mask=own, other=0.0).to(tl.float32)
    result += tl.load(bias + channel, mask=own, other=0.0).to(tl.float32)
    tl.store(kept + place, summed if KEEPS_SUM else result, mask=own)
    tl.store(normed + place, result, mask=own)


def residual_norm_by_triton(
    features: torch.Tensor,
    added: torch.Tensor,
    norm: nn.LayerNorm,
    dtype: torch.dtype,
    *,
    keeps_sum: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add and norm by the Triton kernel: a `ResidualNorm`."""
    kept, normed = _run(features, added, norm.weight, norm.bias, norm.eps, dtype, keeps_sum)
    return kept, normed


@torch.library.custom_op("prelabel::residual_norm", mutates_args=())
def _run(
    features: torch.Tensor,
    added: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    epsilon: float,
    dtype: torch.dtype,
    keeps_sum: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    features, added = features.contiguous(), added.contiguous()
    width = features.shape[-1]
    kept, normed = torch.empty_like(features), torch.empty_like(features, dtype=dtype)
    block = triton.next_power_of_2(width)
    _add_and_norm[(features.numel() // width,)](
        features,
        added,
        weight,
        bias,
        kept,
        normed,
        epsilon,
        WIDTH=width,
        BLOCK=block,
        KEEPS_SUM=keeps_sum,
        num_warps=min(8, max(1, block // _FLOATS_OF_A_WARP)),
    )
    return kept, normed


@_run.register_fake
def _(
    features: torch.Tensor,
    added: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    epsilon: float,
    dtype: torch.dtype,
    keeps_sum: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shapes of the results, for passes without a GPU."""
    del added, weight, bias, epsilon, keeps_sum
    return torch.empty_like(features), torch.empty_like(features, dtype=dtype)
