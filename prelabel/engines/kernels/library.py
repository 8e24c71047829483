"""The library of C kernels that is built when the project is installed, where a compiler is."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch


@cache
def kernels() -> ctypes.CDLL | None:
    """The library of this installation, if it was built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name("_kernels" + suffix)
        if path.is_file():
            return ctypes.CDLL(str(path))
    return None


@dataclass(frozen=True, slots=True)
class LinearKernels:
    """Linear layers of one kind, as linear_amx.c and linear_avx2.c describe them."""

    packed_size: ctypes._NamedFuncPointer
    pack: ctypes._NamedFuncPointer
    run: ctypes._NamedFuncPointer


@cache
def linear_kernels() -> LinearKernels | None:
    """Those that are faster on this processor than PyTorch's, if there are any."""
    library = kernels()
    for kind in ("amx", "avx2"):
        if library is not None and library[f"{kind}_is_available"]():
            packed_size = library[f"{kind}_packed_size"]
            packed_size.restype = ctypes.c_int64
            return LinearKernels(packed_size, library[f"{kind}_pack"], library[f"{kind}_run"])
    return None


def pointers(*tensors: torch.Tensor) -> list[ctypes.c_void_p]:
    """Where their numbers begin; contiguous tensors only."""
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def sizes(*numbers: int) -> list[ctypes.c_int64]:
    """As the kernels take them."""
    return [ctypes.c_int64(number) for number in numbers]
