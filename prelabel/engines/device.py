"""Where the model runs, and in which number format."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from prelabel.errors import DeviceError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_AMPERE = 8  # CUDA major capability from which bfloat16 runs on tensor cores


@dataclass(frozen=True, slots=True)
class Placement:
    """A device with the formats to compute in.

    weights: format of parameters, inputs and results; autocast: compute the forward pass in
    bfloat16 where that is safe. (Not half precision throughout: parts of the text path overflow.)
    """

    device: torch.device
    weights: torch.dtype
    autocast: bool

    def __str__(self) -> str:
        name = str(self.device)
        if self.device.type == "cuda":
            name = f"cuda ({torch.cuda.get_device_name(self.device)})"
        precision = torch.bfloat16 if self.autocast else self.weights
        return f"{name}, {str(precision).removeprefix('torch.')}"

    @property
    def packs(self) -> bool:
        """Whether linear layers may have kernels of ours, see engines/kernels/linear.py."""
        on_cpu = self.device.type == "cpu"
        return on_cpu and self.weights == torch.float32 and not self.autocast

    def forward_context(self) -> torch.autocast:
        """Context for the forward pass, and only for it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast)


def at_least_float32(numbers: torch.Tensor) -> torch.Tensor:
    """The same numbers, float32 where they were of less precision."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def replace_modules(
    network: torch.nn.Module,
    theirs: type[torch.nn.Module] | tuple[type[torch.nn.Module], ...],
    ours: Callable[[Any], torch.nn.Module],
) -> None:
    """Put ours in place of every module of theirs."""
    for name, child in list(network.named_modules()):
        if isinstance(child, theirs):
            network.set_submodule(name, ours(child))


def guard_convolutions(network: torch.nn.Module) -> None:
    """Compute the network's 3x3 convolutions of stride 2 out of autocast.

    On a CPU with AMX, torch 2.15's bfloat16 one reads memory that is not its own where its input
    is one or two columns wide: the coarsest level of a narrow picture would be garbage, and
    another garbage each time. It is the smallest of all levels, so that float32 costs nothing.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and (module.kernel_size, module.stride) == (
            (3, 3),
            (2, 2),
        ):
            module.forward = partial(_convolve_out_of_autocast, module)  # type: ignore[method-assign]


def _convolve_out_of_autocast(conv: torch.nn.Conv2d, pixels: torch.Tensor) -> torch.Tensor:
    with torch.autocast(pixels.device.type, enabled=False):
        return torch.nn.Conv2d.forward(conv, pixels.to(conv.weight.dtype))


def resolve_placement(device: str, precision: str) -> Placement:
    """device: `auto`, `cpu`, `cuda`; precision: `auto`, `float32`, `bfloat16`, `float64`.

    Raises DeviceError where `cuda` is asked for and missing: it never falls back.
    """
    place = _resolve_device(device)
    if precision == "auto":
        # CPUs with AMX have it, too; engines/kernels/linear.py says why float32 is better there.
        precision = "bfloat16" if _is_recent_gpu(place) else "float32"
    if precision not in ("float32", "bfloat16", "float64"):
        raise DeviceError(f"Unknown precision {precision!r}. Use auto, float32 or bfloat16.")
    return Placement(
        device=place,
        weights=torch.float64 if precision == "float64" else torch.float32,
        autocast=precision == "bfloat16",
    )


def use_cpu_threads(count: int) -> None:
    """Compute with so many threads from now on. (Ray allows as many as a replica reserves CPUs.)"""
    torch.set_num_threads(count)


def keep_freed_memory() -> None:
    """Do not give freed memory back to the system, in the whole process.

    A pass takes and frees the same gigabyte in large pieces again and again. By default each is
    mapped anew, and a third of the time on a CPU goes into the page faults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _resolve_device(device: str) -> torch.device:
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"Unknown device {device!r}. Use auto, cpu or cuda.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "The device is set to cuda, but no GPU is visible to this process. Give it one "
            "(driver, container runtime, Ray's num_gpus), or set the device to cpu."
        )
    return torch.device(device)


def _is_recent_gpu(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= _AMPERE
