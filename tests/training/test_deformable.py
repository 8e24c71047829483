"""The kernel against transformers' own deformable attention."""

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoMultiscaleDeformableAttention,
)

from training.deformable import compile_kernel, use_kernel
from training.model import demo_config

SHAPES = [(7, 5), (4, 3), (2, 2), (1, 1)]
POSITIONS = sum(height * width for height, width in SHAPES)


@pytest.fixture
def kernel(tmp_path: Path) -> Any:
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("no C compiler on this machine")
    return compile_kernel(tmp_path)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = GroundingDinoMultiscaleDeformableAttention(
            demo_config(10), num_heads=8, n_points=4
        )
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.1)  # as drawn, locations lie on the grid


def test_the_kernel_leaves_the_arithmetic_of_the_process_alone(kernel: Any) -> None:
    assert sys.float_info.min / 2 > 0  # as linked by -ffast-math, this is 0


@pytest.mark.parametrize("coordinates", [2, 4])
def test_kernel_equals_the_port_forward_and_backward(kernel: Any, coordinates: int) -> None:
    theirs = Block()
    ours = copy.deepcopy(theirs)
    use_kernel(ours, kernel)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    results = []
    for block in (theirs, ours):
        torch.manual_seed(1)
        values = torch.randn(3, POSITIONS, 256, requires_grad=True)
        queries = torch.randn(3, 9, 256, requires_grad=True)
        reference = torch.rand(3, 9, len(SHAPES), coordinates)
        output, _ = block.attention(
            hidden_states=queries,
            encoder_hidden_states=values,
            reference_points=reference,
            spatial_shapes=torch.tensor(SHAPES),
            spatial_shapes_list=SHAPES,
            level_start_index=None,
        )
        output.square().sum().backward()
        gradients = [parameter.grad for parameter in block.parameters()]
        results.append([output, values.grad, queries.grad, *gradients])
    for ours_is, theirs_is in zip(*results, strict=True):
        scale = theirs_is.abs().max()
        assert torch.allclose(ours_is / scale, theirs_is / scale, atol=1e-4)


def test_without_a_compiler_there_is_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_kernel(tmp_path / "elsewhere") is None
