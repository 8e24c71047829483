"""A residual sum with its layer norm: the GPU kernel in Triton's interpreter, its fallback."""

import logging
import os
import subprocess
import sys

import pytest
import torch

from prelabel.engines.device import Placement
from prelabel.engines.kernels import residual_norm as module
from prelabel.engines.kernels.residual_norm import choose_residual_norm, residual_norm

pytestmark = pytest.mark.slow

INTERPRETED = """
import torch
from prelabel.engines.kernels.residual_norm import residual_norm
from prelabel.engines.kernels.residual_norm_triton import residual_norm_by_triton

torch.manual_seed(0)
for shape in ((2, 3, 96), (1, 1, 7), (4, 257), (2, 2, 1024)):
    norm = torch.nn.LayerNorm(shape[-1], eps=1e-5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    features, added = 5 * torch.randn(shape), torch.randn(shape).half()
    for keeps_sum in (True, False):
        for dtype in (torch.float16, torch.float32):
            given = (features, added, norm, dtype)
            with torch.inference_mode():
                found = residual_norm_by_triton(*given, keeps_sum=keeps_sum)
                expected = residual_norm(*given, keeps_sum=keeps_sum)
            assert [each.dtype for each in found] == [torch.float32, dtype]
            for one, other in zip(found, expected):
                limit = 1e-5 if one.dtype == torch.float32 else 1e-2
                assert one.shape == other.shape == shape
                assert (one.float() - other.float()).abs().max() < limit, (shape, keeps_sum)
"""


def test_in_the_interpreter_it_is_what_torch_computes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset:UserWarning")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("number", ["fp16", "bf16"])
def test_it_compiles_for_gpus(number: str, capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from prelabel.engines.kernels.residual_norm_triton import _add_and_norm

    kinds = {"features": "fp32", "added": number, "weight": "fp32", "bias": "fp32"}
    kinds |= {"kept": "fp32", "normed": number}
    signature = {name: f"*{kind}" for name, kind in kinds.items()} | {"epsilon": "fp32"}
    constants = {"WIDTH": 96, "BLOCK": 128, "KEEPS_SUM": True}
    source = ASTSource(
        fn=_add_and_norm,
        signature=signature | dict.fromkeys(constants, "constexpr"),
        constexprs=constants,
    )
    target = GPUTarget("cuda", capability, 32)
    assert triton.compile(source, target=target, options={"num_warps": 1}).asm["cubin"]


def test_on_a_cpu_and_in_full_precision_pytorch_computes_it() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for device, products in ((cpu, torch.float32), (cpu, torch.float16), (gpu, torch.float32)):
        placement = Placement(device, torch.float32, products)
        assert choose_residual_norm(placement) is residual_norm


def test_a_kernel_that_is_wrong_or_fails_is_not_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    placement = Placement(torch.device("cuda"), torch.float32, torch.float16)
    monkeypatch.setattr(module, "_furthest", lambda *_: 0.5)
    with caplog.at_level(logging.WARNING):
        assert choose_residual_norm(placement) is residual_norm
    assert "failed: it is off by 0.5" in caplog.text
    monkeypatch.undo()
    if not torch.cuda.is_available():
        with caplog.at_level(logging.WARNING):
            assert choose_residual_norm(placement) is residual_norm
        assert "Triton's kernel failed: " in caplog.messages[-1]
