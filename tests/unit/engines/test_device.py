from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from deployments.placement import CPU_ENVIRONMENT
from prelabel.engines.device import resolve_placement
from prelabel.errors import DeviceError


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_is_an_error_and_never_the_cpu() -> None:
    with pytest.raises(DeviceError, match="no GPU is visible"):
        resolve_placement("cuda", "auto")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_auto_takes_the_gpu() -> None:
    assert resolve_placement("auto", "float32").device.type == "cuda"


def test_auto_on_a_cpu_is_float32() -> None:
    assert not resolve_placement("cpu", "auto").is_reduced


@pytest.mark.slow
def test_freed_memory_is_kept() -> None:
    """Memory that each pass needs is not mapped anew, page by page."""
    script = """
import resource, torch
from prelabel.engines.device import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(16, 1024, 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    before, after = map(int, output.stdout.split())
    assert after < before / 10


@pytest.mark.slow
def test_torch_s_openmp_knows_how_long_a_detector_s_helpers_look_for_work() -> None:
    """14 ms behind each pass otherwise, on cores that its answer needs."""
    told = subprocess.run(
        [sys.executable, "-c", "import torch; torch.rand(9)"],
        env=os.environ | CPU_ENVIRONMENT | {"OMP_DISPLAY_ENV": "verbose"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{CPU_ENVIRONMENT['GOMP_SPINCOUNT']}'" in told


@pytest.mark.parametrize(
    ("precision", "weights", "products"),
    [
        ("float32", torch.float32, torch.float32),
        ("float16", torch.float32, torch.float16),
        ("bfloat16", torch.float32, torch.bfloat16),
        ("float64", torch.float64, torch.float64),
    ],
)
def test_precision_decides_weights_and_products(
    precision: str, weights: torch.dtype, products: torch.dtype
) -> None:
    placement = resolve_placement("cpu", precision)
    assert (placement.weights, placement.products) == (weights, products)


@pytest.mark.parametrize(("device", "precision"), [("tpu", "auto"), ("cpu", "int8")])
def test_unknown_words_are_refused_with_the_known_ones(device: str, precision: str) -> None:
    with pytest.raises(DeviceError, match=r"Use auto, (cpu or cuda|float32, float16 or bfloat16)"):
        resolve_placement(device, precision)
