"""Multi-scale deformable attention (Deformable DETR, section 4.1).

Both libraries compute it by PyTorch's `grid_sample`, which takes two thirds of the time of a
forward pass on a CPU. Here a C kernel samples in one pass on a CPU, and a Triton kernel on a GPU.
`sample_by_torch` is the reference for both, and the fallback where they are missing or wrong.
"""

from __future__ import annotations

import logging
from typing import Protocol, Self

import torch
from torch import nn
from torch.nn import functional

from prelabel.engines.device import Placement
from prelabel.engines.kernels.arguments import dense_queries, pointers, sizes
from prelabel.engines.kernels.library import kernels

logger = logging.getLogger(__name__)
_TOLERANCE = 1e-3  # largest difference between two orders of summation


class Sampler(Protocol):
    """A function that samples values at points around reference points, and sums them by weights.

    Shapes: B pictures, Q queries, H heads with C channels, L levels with S positions together,
    P points per level.
    """

    def __call__(
        self,
        value: torch.Tensor,
        levels_hw: torch.Tensor,
        reference: torch.Tensor,
        offsets: torch.Tensor,
        logits: torch.Tensor,
    ) -> torch.Tensor:
        """Return the weighted sums, [B, Q, H * C], in the format of `value`.

        Args:
            value: [B, S, H, C].
            levels_hw: int64 [L, 2], height and width of each level.
            reference: [B, Q, L, 2 or 4], x and y, or cx, cy, w and h, in 0..1 of the picture.
            offsets: [B, Q, H, L, P, 2], in positions of the level, or relative to the box.
            logits: [B, Q, H, L * P]; their softmax weights the points of a head.

        Offsets and logits may be parts of one tensor: dense but for the step from query to query.
        """


class Projections(Protocol):
    """The layers of a library's deformable attention, which both libraries name alike."""

    sampling_offsets: nn.Linear
    attention_weights: nn.Linear
    value_proj: nn.Linear
    output_proj: nn.Linear


class DeformableAttention(nn.Module):
    """Deformable attention for pictures without padding, with the layers of a library's own.

    Args:
        original: The library's module.
        heads: Number of attention heads.
        levels: Number of feature levels.
        sampler: Samples the values.
    """

    def __init__(self, original: Projections, heads: int, levels: int, sampler: Sampler) -> None:
        super().__init__()
        self.sampling_offsets = original.sampling_offsets
        self.attention_weights = original.attention_weights
        self.value_proj = original.value_proj
        self.output_proj = original.output_proj
        self._heads, self._levels = heads, levels
        self._sampler = sampler

    def merged(self) -> Self:
        """Compute offsets and weights in one product from now on, because each is narrow.

        For inference: the two layers are no longer there.
        """
        self.sampling = _side_by_side(self.sampling_offsets, self.attention_weights)
        del self.sampling_offsets, self.attention_weights
        return self

    def attend(
        self,
        queries: torch.Tensor,
        source: torch.Tensor,
        reference: torch.Tensor,
        levels_hw: torch.Tensor,
    ) -> torch.Tensor:
        """Return the attended features [B, Q, D], in the format of the source.

        Args:
            queries: [B, Q, D].
            source: [B, S, D], features of all levels.
            reference: [B, Q, L, 2 or 4], in 0..1 of the picture; see `Sampler`.
            levels_hw: int64 [L, 2], height and width of each level.
        """
        value = self.value_proj(source).unflatten(-1, (self._heads, -1))
        offsets, logits = self._sampling(queries)
        offsets = torch.unflatten(offsets, -1, (self._heads, self._levels, -1, 2))
        logits = torch.unflatten(logits, -1, (self._heads, -1))
        sampled = self._sampler(value, levels_hw, reference, offsets, logits)
        attended: torch.Tensor = self.output_proj(sampled)
        return attended

    def _sampling(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return offsets [B, Q, 2 * H * L * P] and logits [B, Q, H * L * P]."""
        if not hasattr(self, "sampling"):
            return self.sampling_offsets(queries), self.attention_weights(queries)
        both = self.sampling(queries)
        count = both.shape[-1] // 3
        return both[..., : 2 * count], both[..., 2 * count :]


def _side_by_side(one: nn.Linear, other: nn.Linear) -> nn.Linear:
    """Return a layer with the outputs of both."""
    layer = nn.Linear(one.in_features, one.out_features + other.out_features)
    layer.weight = nn.Parameter(torch.cat([one.weight.detach(), other.weight.detach()]))
    layer.bias = nn.Parameter(torch.cat([one.bias.detach(), other.bias.detach()]))
    return layer


def sample_by_torch(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    logits: torch.Tensor,
) -> torch.Tensor:
    """Sample in PyTorch, on any device: a `Sampler`.

    Ported from `multi_scale_deformable_attn_pytorch` of groundingdino's ms_deform_attn.py.
    """
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
    weights = logits.softmax(-1).to(value.dtype)
    shares = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    sums = (torch.stack(sampled, dim=-2).flatten(-2) * shares).sum(-1)
    return sums.view(batch, -1, queries).transpose(1, 2)


def sample_by_kernel(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    logits: torch.Tensor,
) -> torch.Tensor:
    """Sample by the C kernel in float32 on the CPU: a `Sampler`. Needs the built library."""
    weights = logits.float().softmax(-1)
    return weighted_by_kernel(value, levels_hw, reference, offsets, weights).to(value.dtype)


def weighted_by_kernel(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Sample by the C kernel with weights [B, Q, H, L * P] instead of logits. Returns float32."""
    library = kernels()
    assert library is not None
    value, reference, weights = (
        tensor.float().contiguous() for tensor in (value, reference, weights)
    )
    offsets = dense_queries(offsets.float())
    batch, positions, heads, width = value.shape
    queries, levels, points = offsets.shape[1], offsets.shape[3], offsets.shape[4]
    out = torch.empty(batch, queries, heads * width)
    library.sample(
        *pointers(value, levels_hw.contiguous(), reference, offsets, weights, out),
        *sizes(batch, positions, heads, width, queries, levels, points, reference.shape[-1]),
        *sizes(offsets.stride(1)),
    )
    return out


def choose_sampler(placement: Placement, head_width: int) -> Sampler:
    """Return the fastest sampler that is correct on a device for heads of `head_width` channels."""
    on_cpu = placement.device.type == "cpu"
    if placement.device.type == "cuda" and placement.weights == torch.float32:
        return _triton_if_correct(placement.device, head_width)
    if not on_cpu or placement.weights == torch.float64:
        return sample_by_torch
    if kernels() is None:
        logger.warning(
            "The C kernels of this installation are missing, and detection takes two to three "
            "times as long. Install gcc (apt-get install gcc libc6-dev), and the project again."
        )
        return sample_by_torch
    return sample_by_kernel


def _triton_if_correct(device: torch.device, head_width: int) -> Sampler:
    """Return the Triton kernel if it computes the same as PyTorch on this GPU, else PyTorch.

    There are more combinations of GPUs, drivers and versions of Triton than can be tested.
    """
    try:
        from prelabel.engines.kernels.deformable_attention_triton import sample_by_triton

        arguments = _trial_inputs(device, head_width)
        difference = (sample_by_triton(*arguments) - sample_by_torch(*arguments)).abs().max()
        if float(difference) < _TOLERANCE:
            return sample_by_triton
        fault = f"it is off by {float(difference):.2g}"
    except Exception as error:  # noqa: BLE001  # the edge: compilers and drivers raise any type
        fault = f"{type(error).__name__}: {error}"
    logger.warning(
        "The GPU computes deformable attention in PyTorch, without Triton's kernel, which failed "
        "its test: %s",
        fault,
    )
    return sample_by_torch


def _trial_inputs(device: torch.device, width: int) -> tuple[torch.Tensor, ...]:
    """Return arguments of a `Sampler` for one item, with points inside, on and beyond borders."""
    numbers = torch.Generator().manual_seed(0)
    levels_hw = torch.tensor([[7, 5], [4, 3], [2, 2], [1, 1]])
    positions, queries, heads, points = int(levels_hw.prod(1).sum()), 16, 2, 4
    offsets = 4 * torch.randn(1, queries, heads, len(levels_hw), points, 2, generator=numbers)
    logits = torch.randn(1, queries, heads, len(levels_hw) * points, generator=numbers)
    value = torch.randn(1, positions, heads, width, generator=numbers)
    reference = torch.rand(1, queries, len(levels_hw), 4, generator=numbers)
    inputs = (value, levels_hw, reference, offsets, logits)
    return tuple(tensor.to(device) for tensor in inputs)
