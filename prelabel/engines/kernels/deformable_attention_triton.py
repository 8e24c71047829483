"""Sampling for deformable attention on a GPU in one pass, like deformable_attention.c on a CPU.

Written in Triton, which is installed with torch. Only `deformable_attention.py` imports this
module, if there is a GPU (or Triton's interpreter, in tests).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from prelabel.engines.kernels.arguments import dense_queries

_QUERIES = 16  # of a program; each reads all channels of a head at once
_WARPS = 4
_SIZES = [
    *("total", "positions", "queries", "reference_batch"),
    *("reference_step", "level_step", "offset_step", "logit_step"),
]


@triton.jit  # type: ignore[untyped-decorator]
def _corners(  # type: ignore[no-untyped-def]  # Triton's language, not Python
    value, values, channel, wanted, x, y, height, width, weight, STEP: tl.constexpr
):
    """Return the weighted values at points [QUERIES] of a level: [QUERIES, BLOCK]."""
    inside = (x > -1) & (y > -1) & (x < width) & (y < height)
    x = tl.where(inside, x, 0.0)
    y = tl.where(inside, y, 0.0)
    left = tl.floor(x)
    top = tl.floor(y)
    total = tl.zeros(wanted.shape, dtype=tl.float32)
    for corner in tl.static_range(4):
        column = left.to(tl.int64) + corner % 2
        row = top.to(tl.int64) + corner // 2
        share_x = x - left if corner % 2 == 1 else left + 1 - x
        share_y = y - top if corner // 2 == 1 else top + 1 - y
        there = inside & (column >= 0) & (row >= 0) & (column < width) & (row < height)
        share = tl.where(there, weight * share_x * share_y, 0.0)
        # Values beyond the level are 0: a position inside is read, with a share of 0.
        column = tl.minimum(tl.maximum(column, 0), width - 1)
        row = tl.minimum(tl.maximum(row, 0), height - 1)
        place = values + (row * width + column) * STEP
        read = tl.load(value + place[:, None] + channel[None, :], mask=wanted, other=0.0)
        total += share[:, None] * read.to(tl.float32)
    return total


@triton.jit  # type: ignore[untyped-decorator]
def _greatest(at, COUNT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the greatest of COUNT numbers that begin at each of the addresses."""
    most = tl.load(at).to(tl.float32)
    for i in tl.static_range(1, COUNT):
        most = tl.maximum(most, tl.load(at + i).to(tl.float32))
    return most


@triton.jit  # type: ignore[untyped-decorator]
def _step(at, size, POINTS: tl.constexpr, IS_BOX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return by how many positions an offset of 1 moves a point, along a side of `size`."""
    if IS_BOX:
        return tl.load(at).to(tl.float32) * 0.5 / POINTS * size
    return tl.full(at.shape, 1.0, dtype=tl.float32)


# Sizes and steps differ from picture to picture, and each value of its own would be compiled anew.
@triton.jit(do_not_specialize=_SIZES)  # type: ignore[untyped-decorator]
def _sample(  # type: ignore[no-untyped-def]  # Triton's language, not Python
    value,  # [B, S, H, C]
    levels,  # int64 [L, 2], height and width
    reference,  # [B, Q, L, R], `reference_step` numbers from query to query, `level_step` to level
    offsets,  # [B, Q, H, L, P, 2], `offset_step` numbers from query to query
    logits,  # [B, Q, H, L * P], `logit_step` numbers from query to query
    out,  # [B, Q, H, C]
    total,  # B * Q
    positions,
    queries,
    reference_batch,  # numbers from picture to picture
    reference_step,
    level_step,
    offset_step,
    logit_step,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,  # WIDTH rounded up to a power of two
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    COORDINATES: tl.constexpr,
    QUERIES: tl.constexpr,
):
    """Sample for QUERIES queries in one head."""
    query = tl.program_id(0).to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    head = tl.program_id(1)
    exists = query < total
    query = tl.minimum(query, total - 1)
    picture = query // queries
    channel = tl.arange(0, BLOCK)
    wanted = exists[:, None] & (channel < WIDTH)[None, :]
    values = (picture * positions * HEADS + head) * WIDTH  # of the level's first position
    at_offset = offsets + query * offset_step + head * LEVELS * POINTS * 2
    at_logit = logits + query * logit_step + head * LEVELS * POINTS
    at_reference = (
        reference + picture * reference_batch + (query - picture * queries) * reference_step
    )
    most = _greatest(at_logit, LEVELS * POINTS)
    summed = tl.zeros((QUERIES,), dtype=tl.float32)
    result = tl.zeros((QUERIES, BLOCK), dtype=tl.float32)
    for level in tl.static_range(LEVELS):
        height = tl.load(levels + 2 * level)
        width = tl.load(levels + 2 * level + 1)
        at = at_reference + level * level_step
        middle_x = tl.load(at).to(tl.float32) * width - 0.5
        middle_y = tl.load(at + 1).to(tl.float32) * height - 0.5
        step_x = _step(at + 2, width, POINTS, COORDINATES == 4)
        step_y = _step(at + 3, height, POINTS, COORDINATES == 4)
        for point in tl.static_range(POINTS):
            sample = level * POINTS + point
            x = middle_x + tl.load(at_offset + 2 * sample).to(tl.float32) * step_x
            y = middle_y + tl.load(at_offset + 2 * sample + 1).to(tl.float32) * step_y
            weight = tl.exp(tl.load(at_logit + sample).to(tl.float32) - most)
            summed += weight
            result += _corners(
                value, values, channel, wanted, x, y, height, width, weight, HEADS * WIDTH
            )
        values += height * width * HEADS * WIDTH
    written = out + ((query * HEADS + head) * WIDTH)[:, None] + channel[None, :]
    tl.store(written, result / summed[:, None], mask=wanted)


@torch.library.custom_op("prelabel::sample", mutates_args=())
def sample_by_triton(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    logits: torch.Tensor,
) -> torch.Tensor:
    """Sample by the Triton kernel: a `Sampler`. Sums in float32, returns the format of `value`."""
    batch, positions, heads, width = value.shape
    _, queries, _, levels, points, _ = offsets.shape
    out = torch.empty(batch, queries, heads * width, dtype=value.dtype, device=value.device)
    offsets, logits = dense_queries(offsets), dense_queries(logits)
    if reference.stride(3) != 1:
        reference = reference.contiguous()
    total = batch * queries
    _sample[triton.cdiv(total, _QUERIES), heads](
        value.contiguous(),
        levels_hw.contiguous(),
        reference,
        offsets,
        logits,
        out,
        total,
        positions,
        queries,
        reference.stride(0),
        reference.stride(1),
        reference.stride(2),
        offsets.stride(1),
        logits.stride(1),
        HEADS=heads,
        WIDTH=width,
        BLOCK=triton.next_power_of_2(width),
        LEVELS=levels,
        POINTS=points,
        COORDINATES=reference.shape[-1],
        QUERIES=_QUERIES,
        num_warps=_WARPS,
    )
    return out


@sample_by_triton.register_fake
def _(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    logits: torch.Tensor,
) -> torch.Tensor:
    """Return the shape of the result, for passes without a GPU."""
    del levels_hw, reference, logits
    batch, _, heads, width = value.shape
    return value.new_empty(batch, offsets.shape[1], heads * width)
