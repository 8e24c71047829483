"""Multi-scale deformable attention (Deformable DETR, section 4.1), most of a detector's work.

Both libraries compute it by PyTorch's `grid_sample`, which on a CPU takes two thirds of the time
of a forward pass. Here it is one pass of a small C kernel, built when the project is installed
where there is a compiler; `sample_by_torch` is its oracle, and what runs without it.
"""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from prelabel.engines.device import Placement
from prelabel.engines.kernels.library import kernels, pointers, sizes

_LOG = logging.getLogger(__name__)
_SAME = 1e-3  # how far two ways to sum may be apart
_MAX_WIDTH = 64  # of the kernel's heads, in channels


class Sampler(Protocol):
    """How values are sampled.

    value [B, S, H, C], S = positions of all L levels; levels_hw int64 [L, 2];
    reference [B, Q, L, 2 or 4], x, y or cx, cy, w, h in 0..1; offsets [B, Q, H, L, P, 2];
    weights [B, Q, H, L, P]. Returns [B, Q, H * C].
    """

    def __call__(
        self,
        value: torch.Tensor,
        levels_hw: torch.Tensor,
        reference: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """See above."""


class Projections(Protocol):
    """The weights of a library's deformable attention, which both name alike."""

    sampling_offsets: nn.Linear
    attention_weights: nn.Linear
    value_proj: nn.Linear
    output_proj: nn.Linear


class DeformableAttention(nn.Module):
    """Deformable attention for pictures without padding, with a library's weights and names."""

    def __init__(self, original: Projections, heads: int, levels: int, sampler: Sampler) -> None:
        super().__init__()
        self.sampling_offsets = original.sampling_offsets
        self.attention_weights = original.attention_weights
        self.value_proj = original.value_proj
        self.output_proj = original.output_proj
        self._heads, self._levels = heads, levels
        self._sampler = sampler

    def attend(
        self,
        queries: torch.Tensor,
        source: torch.Tensor,
        reference: torch.Tensor,
        levels_hw: torch.Tensor,
    ) -> torch.Tensor:
        """queries [B, Q, D] to what they find in source [B, S, D]; the rest as in `Sampler`."""
        value = self.value_proj(source).unflatten(-1, (self._heads, -1))
        offsets = self.sampling_offsets(queries)
        logits = self.attention_weights(queries).unflatten(-1, (self._heads, -1))
        weights = logits.softmax(-1).unflatten(-1, (self._levels, -1))
        offsets = offsets.view(*weights.shape, 2)
        found = self._sampler(value, levels_hw, reference, offsets, weights)
        attended: torch.Tensor = self.output_proj(found)
        return attended


def sample_by_torch(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """`multi_scale_deformable_attn_pytorch` of groundingdino's ms_deform_attn.py: anywhere."""
    batch, queries, heads, levels, points, _ = offsets.shape
    centre = reference[:, :, None, :, None, :2]
    if reference.shape[-1] == 2:
        locations = centre + offsets / levels_hw.flip(-1)[:, None]
    else:
        locations = centre + offsets / points * reference[:, :, None, :, None, 2:] * 0.5
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    sizes = [(int(height), int(width)) for height, width in levels_hw.tolist()]
    parts = torch.split_with_sizes(value, [height * width for height, width in sizes], dim=1)
    sampled = [
        functional.grid_sample(
            part.flatten(2).transpose(1, 2).reshape(batch * heads, -1, height, width),
            grids[:, :, level].to(part.dtype),
            align_corners=False,
        )
        for level, ((height, width), part) in enumerate(zip(sizes, parts, strict=True))
    ]
    shares = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    found = (torch.stack(sampled, dim=-2).flatten(-2) * shares).sum(-1)
    return found.view(batch, -1, queries).transpose(1, 2)


def sample_by_kernel(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """By the C kernel, in float32 on the CPU. Only where `kernels` has one."""
    library = kernels()
    assert library is not None
    inputs = [tensor.float().contiguous() for tensor in (value, reference, offsets, weights)]
    value, reference, offsets, weights = inputs
    batch, positions, heads, width = value.shape
    queries, levels, points = offsets.shape[1], offsets.shape[3], offsets.shape[4]
    out = torch.empty(batch, queries, heads * width)
    library.sample(
        *pointers(value, levels_hw.contiguous(), reference, offsets, weights, out),
        *sizes(batch, positions, heads, width, queries, levels, points, reference.shape[-1]),
    )
    return out


def choose_sampler(placement: Placement, head_width: int) -> Sampler:
    """The fastest that is right for heads of that many channels there."""
    on_cpu = placement.device.type == "cpu"
    if placement.device.type == "cuda" and placement.weights == torch.float32:
        return _triton_if_right(placement.device, head_width)
    if not on_cpu or placement.weights == torch.float64 or head_width > _MAX_WIDTH:
        return sample_by_torch
    if kernels() is None:
        _LOG.warning(
            "The C kernels of this installation are missing: detection takes two to three times "
            "as long. Install gcc (apt-get install gcc libc6-dev), then the project anew."
        )
        return sample_by_torch
    return sample_by_kernel


def _triton_if_right(device: torch.device, head_width: int) -> Sampler:
    """Triton's kernel, once it was seen to compute what it should on this GPU: there are more kinds
    of them, of drivers and of Triton than anybody tries.
    """
    try:
        from prelabel.engines.kernels.deformable_attention_triton import sample_by_triton

        arguments = _trial(device, head_width)
        difference = (sample_by_triton(*arguments) - sample_by_torch(*arguments)).abs().max()
        if float(difference) < _SAME:
            return sample_by_triton
        fault = f"it is off by {float(difference):.2g}"
    except Exception as error:  # noqa: BLE001  # a compiler and a driver raise what they like
        fault = f"{type(error).__name__}: {error}"
    _LOG.warning("The GPU computes deformable attention without Triton's kernel: %s", fault)
    return sample_by_torch


def _trial(device: torch.device, width: int) -> tuple[torch.Tensor, ...]:
    """Arguments of a `Sampler`, for one item: places within, on and beyond all borders."""
    numbers = torch.Generator().manual_seed(0)
    levels_hw = torch.tensor([[7, 5], [4, 3], [2, 2], [1, 1]])
    positions, queries, heads, points = int(levels_hw.prod(1).sum()), 16, 2, 4
    offsets = 4 * torch.randn(1, queries, heads, len(levels_hw), points, 2, generator=numbers)
    weights = torch.rand(offsets.shape[:-1], generator=numbers)
    value = torch.randn(1, positions, heads, width, generator=numbers)
    reference = torch.rand(1, queries, len(levels_hw), 4, generator=numbers)
    trial = (value, levels_hw, reference, offsets, weights)
    return tuple(tensor.to(device) for tensor in trial)
