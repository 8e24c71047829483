"""The GPU's kernel, where there is no GPU: run by Triton's interpreter, compiled for real ones."""

import logging
import os
import subprocess
import sys

import pytest
import torch

from prelabel.engines.kernels import deformable_attention as deformable

pytestmark = pytest.mark.slow

WARPS = {"num_warps": 4}
NAMES = ("HEADS", "WIDTH", "BLOCK", "LEVELS", "POINTS", "COORDINATES", "QUERIES")
SIZES = ("total", "positions", "queries", "reference_batch", "reference_step", "level_step")
STEPS = ("offset_step", "logit_step")

INTERPRETED = """
import torch
from prelabel.engines.kernels.deformable_attention import sample_by_torch
from prelabel.engines.kernels.deformable_attention_triton import sample_by_triton
from tests.support.attention_inputs import attention_inputs

for coordinates in (2, 4):
    for width, heads, points, spread in ((32, 2, 2, 4.0), (7, 3, 1, 50.0), (8, 1, 4, 0.0)):
        arguments = attention_inputs(coordinates, width, heads, points, spread)
        difference = (sample_by_triton(*arguments) - sample_by_torch(*arguments)).abs().max()
        assert difference < 1e-5, (coordinates, width, float(difference))
    value, levels_hw, reference, offsets, logits = attention_inputs(coordinates)
    together = torch.cat([offsets.flatten(2), logits.flatten(2)], dim=-1)
    count = offsets[0, 0].numel()
    parts = (
        together[..., :count].view(offsets.shape),
        together[..., count:].view(logits.shape),
    )
    same = reference[:1, :, :1].expand(3, -1, 4, -1)  # as the encoder has it
    difference = sample_by_triton(value, levels_hw, same, *parts) - sample_by_torch(
        value, levels_hw, same, offsets, logits
    )
    assert difference.abs().max() < 1e-5
    value, *others = attention_inputs(coordinates, 32, 1, 1, 1.0)
    narrow = sample_by_triton(value.bfloat16(), *others)
    assert narrow.dtype == torch.bfloat16
    wide = sample_by_torch(value.bfloat16().float(), *others)
    assert (narrow.float() - wide).abs().max() < 0.02
"""


def test_in_the_interpreter_it_is_what_torch_computes() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset:UserWarning")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("number", ["fp32", "fp16", "bf16"])
def test_it_compiles_for_gpus(number: str, capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from prelabel.engines.kernels.deformable_attention_triton import _sample

    pointers = {"value": number, "levels": "i64", "reference": "fp32", "offsets": number}
    pointers |= {"logits": number, "out": number}
    signature = {name: f"*{kind}" for name, kind in pointers.items()}
    signature |= dict.fromkeys(SIZES + STEPS, "i32") | dict.fromkeys(NAMES, "constexpr")
    constants = dict(zip(NAMES, (8, 32, 32, 4, 4, 4, 16), strict=True))
    source = ASTSource(fn=_sample, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=WARPS)
    assert compiled.asm["cubin"]


def test_a_gpu_on_which_it_does_not_run_computes_in_torch_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A device without Triton stands for it: the processor."""
    with caplog.at_level(logging.WARNING):
        sampler = deformable._triton_if_correct(torch.device("cpu"), 32)
    assert sampler is deformable.sample_by_torch
    assert "without Triton's kernel" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_on_a_gpu_it_is_chosen() -> None:
    from prelabel.engines.kernels.deformable_attention_triton import sample_by_triton

    assert deformable._triton_if_correct(torch.device("cuda"), 32) is sample_by_triton
