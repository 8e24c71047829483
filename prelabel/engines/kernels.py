"""The library of C kernels that is built when the project is installed, where a compiler is."""

from __future__ import annotations

import ctypes
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


@cache
def tiled_kernels() -> ctypes.CDLL | None:
    """The library, where it has linear layers for this processor (AMX)."""
    library = kernels()
    if library is None or not library.linear_is_available():
        return None
    library.linear_packed_size.restype = ctypes.c_int64
    return library


def pointers(*tensors: torch.Tensor) -> list[ctypes.c_void_p]:
    """Where their numbers begin; contiguous tensors only."""
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def sizes(*numbers: int) -> list[ctypes.c_int64]:
    """As the kernels take them."""
    return [ctypes.c_int64(number) for number in numbers]
