"""Random arguments of the samplers of deformable attention."""

import torch

LEVELS_HW = torch.tensor([[7, 5], [4, 3], [2, 2], [1, 1]])
POSITIONS = int(LEVELS_HW.prod(1).sum())


def attention_inputs(
    coordinates: int, width: int = 32, heads: int = 8, points: int = 4, spread: float = 4.0
) -> tuple[torch.Tensor, ...]:
    """Arguments of a `Sampler` for 3 items of 11 queries, some far out of the picture."""
    torch.manual_seed(coordinates)
    offsets = spread * torch.randn(3, 11, heads, len(LEVELS_HW), points, 2)
    logits = torch.randn(3, 11, heads, len(LEVELS_HW) * points)
    return (
        torch.randn(3, POSITIONS, heads, width),
        LEVELS_HW,
        torch.rand(3, 11, len(LEVELS_HW), coordinates) * 1.4 - 0.2,
        offsets,
        logits,
    )
