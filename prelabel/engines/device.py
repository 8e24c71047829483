"""Device and number format of a model, and settings of torch and the process that follow."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from prelabel.errors import DeviceError, DeviceMemoryError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # options of mallopt in glibc's malloc.h
# CUDA major capabilities from which tensor cores compute a format: Volta and Ampere.
_TENSOR_CORES = {"float16": 7, "bfloat16": 8}


@dataclass(frozen=True, slots=True)
class Placement:
    """A device with the number formats to compute in.

    Attributes:
        device: The device of all parameters.
        weights: Format of parameters, coordinates, scores and results.
        products: Format in which the large matrix products are computed.
    """

    device: torch.device
    weights: torch.dtype
    products: torch.dtype

    def __str__(self) -> str:
        name = str(self.device)
        if self.device.type == "cuda":
            name = f"cuda ({torch.cuda.get_device_name(self.device)})"
        return f"{name}, {str(self.products).removeprefix('torch.')}"

    @property
    def allows_packed_linears(self) -> bool:
        """True if linear layers may run in the C kernels of engines/kernels/linear.py."""
        on_cpu = self.device.type == "cpu"
        return on_cpu and self.weights == self.products == torch.float32

    @property
    def is_reduced(self) -> bool:
        """True if products are computed in a shorter format than the weights have."""
        return self.products != self.weights

    @property
    def exact(self) -> Placement:
        """This placement with products in the format of the weights."""
        return replace(self, products=self.weights)

    def forward_context(self, *, exact: bool = False) -> torch.autocast:
        """Return the context in which a library's module computes its products in their format.

        If `exact` is set, it computes them in the format of the weights.
        """
        reduced = self.is_reduced and not exact
        dtype = self.products if reduced else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=reduced)


@contextmanager
def device_memory_errors() -> Iterator[None]:
    """Raise DeviceMemoryError for a pass that does not fit the GPU's memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()  # for the halves of the batch, which the gate runs next
        raise DeviceMemoryError(
            "The picture does not fit the GPU's memory. Use a GPU with more memory, or a "
            "smaller model; see `prelabel models`."
        ) from error


def at_least_float32(numbers: torch.Tensor) -> torch.Tensor:
    """Return the numbers in float32, or in their own format if that is more precise."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def replace_modules(
    network: torch.nn.Module,
    kind: type[torch.nn.Module] | tuple[type[torch.nn.Module], ...],
    replacement: Callable[[Any], torch.nn.Module],
) -> None:
    """Replace every module of a kind by the module that `replacement` returns for it."""
    for name, child in list(network.named_modules()):
        if isinstance(child, kind):
            network.set_submodule(name, replacement(child))


def guard_convolutions(network: torch.nn.Module) -> None:
    """Compute the network's 3x3 convolutions of stride 2 outside autocast.

    On a CPU with AMX, the bfloat16 convolution of torch 2.15 reads beyond its input if that is
    one or two columns wide: the coarsest level of a narrow picture would be garbage, different each
    time. That level is the smallest, so that float32 costs nothing.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and (module.kernel_size, module.stride) == (
            (3, 3),
            (2, 2),
        ):
            module.forward = partial(_convolve_outside_autocast, module)  # type: ignore[method-assign]


def _convolve_outside_autocast(conv: torch.nn.Conv2d, pixels: torch.Tensor) -> torch.Tensor:
    with torch.autocast(pixels.device.type, enabled=False):
        return torch.nn.Conv2d.forward(conv, pixels.to(conv.weight.dtype))


def resolve_placement(device: str, precision: str, on_gpu: str = "float16") -> Placement:
    """Choose the device and the number formats from settings.

    Args:
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.
        precision: `auto`, `float32`, `float16`, `bfloat16` or `float64`.
        on_gpu: The meaning of `auto` on a GPU that has it, `float16` or `bfloat16`.

    Raises:
        DeviceError: A name is unknown, or `cuda` is set without a visible GPU. There is no
            fallback to the CPU.
    """
    torch_device = _resolve_device(device)
    if precision == "auto":
        # CPUs with AMX compute bfloat16 faster, too, but it changes which boxes are found;
        # engines/kernels/linear.py explains it.
        precision = on_gpu if _has_tensor_cores(torch_device, on_gpu) else "float32"
    if precision not in ("float32", "bfloat16", "float16", "float64"):
        raise DeviceError(
            f"Unknown precision {precision!r}. Use auto, float32, float16 or bfloat16."
        )
    weights = torch.float64 if precision == "float64" else torch.float32
    short = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    return Placement(torch_device, weights, short.get(precision, weights))


def use_cpu_threads(count: int) -> None:
    """Set the number of torch's threads in the whole process.

    By default, Ray sets the number to the CPUs that a replica reserves.
    """
    torch.set_num_threads(count)


def keep_freed_memory() -> None:
    """Keep freed memory in the process instead of returning it to the system.

    A forward pass allocates and frees the same gigabyte in large pieces again and again. By default
    glibc maps each piece anew, and page faults take a third of the time on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # in glibc only
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
            "The device is set to cuda, but no GPU is visible to this process. Give it a GPU "
            "(driver, container runtime, Ray's num_gpus), or set the device to cpu."
        )
    return torch.device(device)


def _has_tensor_cores(device: torch.device, dtype: str) -> bool:
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device)[0] >= _TENSOR_CORES[dtype]
