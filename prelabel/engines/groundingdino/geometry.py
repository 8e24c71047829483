"""Everything that a forward pass needs of a picture's size, computed once for each size.

All of it follows from the height and the width, so that a pass itself copies nothing from the CPU
and waits for nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from prelabel.engines.device import Placement

_NO_ATTENTION = -100.0  # added to scores between windows' parts that are not neighbours
_PROPOSAL_SIDE = 0.05  # of the picture's side, on the finest level; doubled on each next level
_LEAST_SHARE = 0.01  # of the picture's side, of a proposal
_SIZES = 16  # that are kept; 50 MB each at 800 x 1333 in half precision

HW = tuple[int, int]


@dataclass(frozen=True, slots=True)
class StageGeometry:
    """Windows of one stage of the backbone, over a map of H x W tokens.

    Attributes:
        hw: Height and width of the map in tokens.
        padding: Columns at the right and rows at the bottom that fill the last windows up.
        order: int64 [2, W * T], the padded map's positions in the order of windows, without and
            with the shift by half a window.
        places: int64 [2, H * W], for each position of the map its place in that order.
        mask: [W, 1, T, T], added to the scores of shifted windows.
    """

    hw: HW
    padding: tuple[int, int]
    order: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Geometry:
    """All that follows from a picture's size. S positions on L levels.

    Attributes:
        stages: The stages of the backbone.
        levels: Height and width of each level in positions.
        levels_hw: The same, int64 [L, 2].
        positions: [1, S, D], position embeddings.
        references: [1, S, L, 2], x and y of each position in 0..1, the same for all levels.
        proposals: [1, S, 4], log odds of each position's proposed box, cxcywh in 0..1; infinite
            where it would be too close to the border.
        is_proposed: bool [1, S, 1], False for these.
        products: Number format of the large matrix products.
    """

    stages: tuple[StageGeometry, ...]
    levels: tuple[HW, ...]
    levels_hw: torch.Tensor
    positions: torch.Tensor
    references: torch.Tensor
    proposals: torch.Tensor
    is_proposed: torch.Tensor
    products: torch.dtype

    def on(self, placement: Placement) -> Geometry:
        """Return a copy on the device, in its number formats."""
        device, full, products = placement.device, placement.weights, placement.products
        stages = tuple(
            replace(
                stage,
                order=stage.order.to(device),
                places=stage.places.to(device),
                mask=stage.mask.to(device, products),
            )
            for stage in self.stages
        )
        return Geometry(
            stages,
            self.levels,
            self.levels_hw.to(device),
            self.positions.to(device, full),
            self.references.to(device, full),
            self.proposals.to(device, full),
            self.is_proposed.to(device),
            products,
        )


class Geometries:
    """The most recent sizes' geometries."""

    def __init__(self, compute: Callable[[HW], Geometry]) -> None:
        self._compute = compute
        self._kept: OrderedDict[HW, Geometry] = OrderedDict()

    def __call__(self, hw: HW) -> Geometry:
        """Return the geometry of pictures with height and width `hw`, in pixels."""
        geometry = self._kept.pop(hw, None) or self._compute(hw)
        self._kept[hw] = geometry
        if len(self._kept) > _SIZES:
            self._kept.popitem(last=False)
        return geometry


def compute(
    maps: tuple[HW, ...],
    levels: tuple[HW, ...],
    level_embed: torch.Tensor,
    *,
    window: int,
    temperature: float,
) -> Geometry:
    """Return the geometry of a size, on the CPU.

    Args:
        maps: Height and width of the map of each stage of the backbone, in tokens.
        levels: Height and width of each level, in positions.
        level_embed: [L, D], added to the embeddings of a level's positions.
        window: Side of a window of the backbone in tokens.
        temperature: That of the sine embedding of positions.
    """
    level_of = torch.repeat_interleave(torch.tensor([height * width for height, width in levels]))
    positions = sine_positions(levels, level_embed.shape[1], temperature)
    boxes, inside = proposals(levels)
    return Geometry(
        tuple(stage_geometry(hw, window) for hw in maps),
        levels,
        torch.tensor(levels),
        (positions + level_embed[level_of])[None],
        centres(levels)[None, :, None].expand(-1, -1, len(levels), -1),
        boxes[None],
        inside[None],
        torch.float64,
    )


def stage_geometry(hw: HW, window: int) -> StageGeometry:
    """Return the windows over a map of `hw` tokens, on the CPU.

    Ported from `SwinTransformerBlock.forward` and `BasicLayer.forward` of groundingdino's
    swin_transformer.py.
    """
    height, width = hw
    right, bottom = -width % window, -height % window
    padded_hw = (height + bottom, width + right)
    shift = window // 2
    index = torch.arange(padded_hw[0] * padded_hw[1]).view(padded_hw)
    order = torch.stack(
        [_windows(index, window), _windows(index.roll((-shift, -shift), (0, 1)), window)]
    )
    places = order.argsort().view(2, *padded_hw)[:, :height, :width].flatten(1)
    # Parts of the shifted map that were not neighbours before the shift.
    rows, columns = (
        (torch.arange(side) >= side - window).int() + (torch.arange(side) >= side - shift).int()
        for side in padded_hw
    )
    parts = _windows(3 * rows[:, None] + columns, window).view(-1, window * window)
    apart = parts[:, :, None] != parts[:, None]
    mask = torch.zeros(apart.shape).masked_fill(apart, _NO_ATTENTION)[:, None]
    return StageGeometry(hw, (right, bottom), order, places, mask)


def _windows(grid: torch.Tensor, window: int) -> torch.Tensor:
    """Return the numbers of a grid [H, W], window by window."""
    height, width = grid.shape
    tiles = grid.view(height // window, window, width // window, window)
    return tiles.transpose(1, 2).flatten()


def sine_table(width: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return frequencies and phases of the sine embedding of a number, float64 [`width`] each.

    The embedding of a number is the sine of its product with the frequencies, plus the phases.
    """
    index = torch.arange(width, dtype=torch.float64)
    frequencies = 2 * math.pi * temperature ** (-2 * (index // 2) / width)
    return frequencies, (index % 2) * math.pi / 2  # the cosine is a sine with a phase


def sine_positions(levels: tuple[HW, ...], width: int, temperature: float) -> torch.Tensor:
    """Return the position embeddings of all levels, float64 [S, `width`].

    Ported from `PositionEmbeddingSineHW` of groundingdino's position_encoding.py.
    """
    frequencies, phase = sine_table(width // 2, temperature)

    def embedding(side: int) -> torch.Tensor:
        place = torch.arange(1, side + 1, dtype=torch.float64) / (side + 1e-6)
        return (place[:, None] * frequencies + phase).sin()

    return torch.cat(
        [
            torch.cat(
                [
                    embedding(height)[:, None].expand(-1, columns, -1),
                    embedding(columns)[None].expand(height, -1, -1),
                ],
                dim=-1,
            ).flatten(0, 1)
            for height, columns in levels
        ]
    )


def centres(levels: tuple[HW, ...]) -> torch.Tensor:
    """Return x and y of the centre of each position, float64 [S, 2] in 0..1 of the picture."""
    grids = []
    for height, width in levels:
        y, x = ((torch.arange(side, dtype=torch.float64) + 0.5) / side for side in (height, width))
        grids.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1))
    return torch.cat(grids)


def proposals(levels: tuple[HW, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each position's proposal in log odds, float64 [S, 4], and a mask, bool [S, 1].

    Ported from `gen_encoder_output_proposals` of groundingdino's utils.py.
    """
    side = torch.cat(
        [
            torch.full((height * width, 2), _PROPOSAL_SIDE * 2**level, dtype=torch.float64)
            for level, (height, width) in enumerate(levels)
        ]
    )
    boxes = torch.cat([centres(levels), side], dim=-1)
    inside = ((boxes > _LEAST_SHARE) & (boxes < 1 - _LEAST_SHARE)).all(-1, keepdim=True)
    return (boxes / (1 - boxes)).log().masked_fill(~inside, float("inf")), inside


def padded(tokens: torch.Tensor, stage: StageGeometry) -> torch.Tensor:
    """Fill a map [B, H * W, C] up with zeros: [B, padded H * W, C]."""
    if stage.padding == (0, 0):
        return tokens
    right, bottom = stage.padding
    grid = torch.unflatten(tokens, 1, stage.hw)
    return functional.pad(grid, (0, 0, 0, right, 0, bottom)).flatten(1, 2)
