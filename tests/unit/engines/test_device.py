from __future__ import annotations

import pytest
import torch

from prelabel.engines.device import resolve_placement
from prelabel.errors import DeviceError


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_is_an_error_and_never_the_cpu() -> None:
    with pytest.raises(DeviceError, match="no GPU is visible"):
        resolve_placement("cuda", "auto")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_auto_takes_the_gpu() -> None:
    assert resolve_placement("auto", "float32").device.type == "cuda"


def test_auto_on_a_cpu_computes_bfloat16_where_there_is_amx() -> None:
    has_amx = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    assert resolve_placement("cpu", "auto").autocast is has_amx


@pytest.mark.parametrize(
    ("precision", "weights", "autocast"),
    [
        ("float32", torch.float32, False),
        ("bfloat16", torch.float32, True),
        ("float64", torch.float64, False),
    ],
)
def test_precision_decides_weights_and_autocast(
    precision: str, weights: torch.dtype, autocast: bool
) -> None:
    placement = resolve_placement("cpu", precision)
    assert (placement.weights, placement.autocast) == (weights, autocast)


@pytest.mark.parametrize(("device", "precision"), [("tpu", "auto"), ("cpu", "int8")])
def test_unknown_words_are_refused_with_the_known_ones(device: str, precision: str) -> None:
    with pytest.raises(DeviceError, match=r"Use auto, (cpu or cuda|float32 or bfloat16)"):
        resolve_placement(device, precision)
