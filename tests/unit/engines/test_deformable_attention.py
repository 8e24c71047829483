"""Deformable attention: ours against groundingdino's own, the C kernel against ours."""

import logging
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prelabel.engines.device import resolve_placement
from prelabel.engines.kernels import deformable_attention as deformable
from prelabel.engines.kernels.deformable_attention import (
    DeformableAttention,
    choose_sampler,
    sample_by_kernel,
    sample_by_torch,
)
from prelabel.engines.kernels.library import kernels
from tests.support.attention_inputs import LEVELS_HW, POSITIONS, attention_inputs
from tests.support.engine_factory import EngineFactory


@pytest.fixture(autouse=True)
def _built() -> None:
    assert kernels() is not None, "The kernel was not built: install gcc, then prelabel."


@pytest.mark.parametrize("coordinates", [2, 4])
def test_in_torch_it_is_what_groundingdino_computes(coordinates: int) -> None:
    from groundingdino.models.GroundingDINO.ms_deform_attn import MultiScaleDeformableAttention

    torch.manual_seed(0)
    theirs = MultiScaleDeformableAttention(num_points=4, batch_first=True).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # as drawn, locations lie on the grid
    ours = DeformableAttention(theirs, 8, len(LEVELS_HW), sample_by_torch)
    queries = torch.randn(2, 9, 256, dtype=torch.float64)
    source = torch.randn(2, POSITIONS, 256, dtype=torch.float64)
    reference = torch.rand(2, 9, len(LEVELS_HW), coordinates, dtype=torch.float64)
    expected = theirs(
        query=queries, value=source, reference_points=reference, spatial_shapes=LEVELS_HW
    )
    found = ours.attend(queries, source, reference, LEVELS_HW)
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("coordinates", [2, 4])
@pytest.mark.parametrize(
    ("width", "heads", "points"), [(32, 8, 4), (8, 2, 1), (64, 1, 5), (7, 3, 2), (100, 1, 9)]
)
@pytest.mark.parametrize("spread", [0.0, 1.0, 50.0])
def test_the_kernel_is_equal(
    coordinates: int, width: int, heads: int, points: int, spread: float
) -> None:
    arguments = attention_inputs(coordinates, width, heads, points, spread)
    difference = sample_by_kernel(*arguments) - sample_by_torch(*arguments)
    assert difference.abs().max() < 1e-4


def test_exactly_on_the_border_it_reads_nothing_beyond() -> None:
    value, levels_hw, _, offsets, weights = attention_inputs(2)
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.5]])
    for corner in corners:
        reference = corner.expand(3, 11, len(LEVELS_HW), 2)
        arguments = (value, levels_hw, reference, torch.zeros_like(offsets), weights)
        assert torch.allclose(
            sample_by_kernel(*arguments), sample_by_torch(*arguments), rtol=0, atol=1e-5
        )


def test_bfloat16_is_widened_before_it_is_summed() -> None:
    narrow = [t.bfloat16() if t.is_floating_point() else t for t in attention_inputs(4)]
    wide = [t.float() if t.is_floating_point() else t for t in narrow]
    expected = sample_by_kernel(*wide).bfloat16()
    assert torch.equal(sample_by_kernel(*narrow), expected)


def test_parts_of_one_tensor_are_read_where_they_lie() -> None:
    value, levels_hw, reference, offsets, logits = attention_inputs(4)
    together = torch.cat([offsets.flatten(2), logits.flatten(2)], dim=-1)
    count = offsets[0, 0].numel()
    parts = (
        together[..., :count].view(offsets.shape),
        together[..., count:].view(logits.shape),
    )
    assert not parts[0].is_contiguous()
    assert torch.equal(
        sample_by_kernel(value, levels_hw, reference, *parts),
        sample_by_kernel(value, levels_hw, reference, offsets, logits),
    )


def test_other_layouts_in_memory_are_read_right() -> None:
    value, levels_hw, reference, offsets, weights = attention_inputs(2)
    strided = value.transpose(0, 1).contiguous().transpose(0, 1)
    repeated = reference[:, :, :1].expand(-1, -1, len(LEVELS_HW), -1)
    assert torch.equal(
        sample_by_kernel(strided, levels_hw, repeated, offsets, weights),
        sample_by_kernel(value, levels_hw, repeated.contiguous(), offsets, weights),
    )


def test_no_number_for_a_place_reads_no_memory() -> None:
    value, levels_hw, reference, offsets, weights = attention_inputs(2)
    for nonsense in (np.nan, np.inf, -np.inf, 1e30):
        found = sample_by_kernel(value, levels_hw, reference, offsets * 0 + nonsense, weights)
        assert torch.equal(found, torch.zeros_like(found))


def test_an_item_does_not_depend_on_its_neighbours() -> None:
    value, levels_hw, *others = attention_inputs(4)
    together = sample_by_kernel(value, levels_hw, *others)
    for i in range(3):
        alone = sample_by_kernel(value[i : i + 1], levels_hw, *(t[i : i + 1] for t in others))
        assert torch.equal(alone[0], together[i])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["huggingface", "groundingdino"])
def test_engines_use_it_on_a_cpu(
    demo_engine: EngineFactory,
    scene: NDArray[Any],
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
) -> None:
    loaded = demo_engine(engine, "float32")
    asked = []
    library = kernels()

    class Counted:
        def sample(self, *arguments: Any) -> None:
            asked.append(len(arguments))
            assert library is not None
            library.sample(*arguments)

    monkeypatch.setattr(deformable, "kernels", Counted)
    loaded.detect(loaded.prepare(scene, ["red circle"]))
    assert len(asked) == 4  # two layers of the encoder, two of the decoder


def test_what_the_kernel_does_not_compute_is_computed_in_torch() -> None:
    cpu = partial(resolve_placement, "cpu")
    assert choose_sampler(cpu("float32"), 32) is sample_by_kernel
    assert choose_sampler(cpu("bfloat16"), 64) is sample_by_kernel
    assert choose_sampler(cpu("float64"), 32) is sample_by_torch


def test_without_the_kernel_detection_works_and_the_log_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deformable, "kernels", lambda: None)
    with caplog.at_level(logging.WARNING):
        assert choose_sampler(resolve_placement("cpu", "float32"), 32) is sample_by_torch
    assert "Install gcc" in caplog.text
