"""Sampling for deformable attention on a GPU in one pass, like deformable_attention.c on a CPU.

Written in Triton, which is installed with torch. Only `deformable_attention.py` imports this
module, if there is a GPU (or Triton's interpreter, in tests).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def _sample(  # type: ignore[no-untyped-def]  # Triton's language, not Python
    value,  # [B, S, H, C]
    levels,  # int64 [L, 2], height and width
    reference,  # float32 [B, Q, L, R]
    offsets,  # [B, Q, H, L, P, 2]
    weights,  # [B, Q, H, L, P]
    out,  # [B, Q, H, C]
    positions,
    queries,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,  # WIDTH rounded up to a power of two
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    COORDINATES: tl.constexpr,
):
    """Sample for one query in one head. A warp reads the channels of a corner side by side."""
    query = tl.program_id(0).to(tl.int64)  # counted over all items of the batch
    head = tl.program_id(1)
    channel = tl.arange(0, BLOCK)
    own = channel < WIDTH
    values = value + ((query // queries) * positions * HEADS + head) * WIDTH + channel
    place = (query * HEADS + head) * LEVELS * POINTS
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for level in tl.static_range(LEVELS):
        height = tl.load(levels + 2 * level)
        width = tl.load(levels + 2 * level + 1)
        at = reference + (query * LEVELS + level) * COORDINATES
        middle_x = tl.load(at).to(tl.float32) * width - 0.5
        middle_y = tl.load(at + 1).to(tl.float32) * height - 0.5
        step_x = 1.0
        step_y = 1.0
        if COORDINATES == 4:
            step_x = tl.load(at + 2).to(tl.float32) * 0.5 / POINTS * width
            step_y = tl.load(at + 3).to(tl.float32) * 0.5 / POINTS * height
        for point in tl.static_range(POINTS):
            sample = place + level * POINTS + point
            x = middle_x + tl.load(offsets + 2 * sample).to(tl.float32) * step_x
            y = middle_y + tl.load(offsets + 2 * sample + 1).to(tl.float32) * step_y
            weight = tl.load(weights + sample).to(tl.float32)
            inside = (x > -1) & (y > -1) & (x < width) & (y < height)
            x = tl.where(inside, x, 0.0)
            y = tl.where(inside, y, 0.0)
            left = tl.floor(x)
            top = tl.floor(y)
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
                read = tl.load(values + (row * width + column) * HEADS * WIDTH, mask=own)
                total += share * read.to(tl.float32)
        values += height * width * HEADS * WIDTH
    tl.store(out + (query * HEADS + head) * WIDTH + channel, total, mask=own)


def sample_by_triton(
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Sample by the Triton kernel: a `Sampler`. Sums in float32, returns the format of `value`."""
    batch, positions, heads, width = value.shape
    _, queries, _, levels, points, _ = offsets.shape
    out = torch.empty(batch, queries, heads * width, dtype=value.dtype, device=value.device)
    _sample[batch * queries, heads](
        value.contiguous(),
        levels_hw.contiguous(),
        reference.contiguous(),
        offsets.contiguous(),
        weights.contiguous(),
        out,
        positions,
        queries,
        HEADS=heads,
        WIDTH=width,
        BLOCK=triton.next_power_of_2(width),
        LEVELS=levels,
        POINTS=points,
        COORDINATES=reference.shape[-1],
        num_warps=1,
    )
    return out
