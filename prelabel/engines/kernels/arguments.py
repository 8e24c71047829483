"""Tensors and sizes in the form that kernels take."""

from __future__ import annotations

import ctypes

import torch


def pointers(*tensors: torch.Tensor) -> list[ctypes.c_void_p]:
    """Return the addresses of the first elements. The tensors must be contiguous."""
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def sizes(*numbers: int) -> list[ctypes.c_int64]:
    """Return sizes in the type of the kernels' arguments."""
    return [ctypes.c_int64(number) for number in numbers]


def dense_queries(tensor: torch.Tensor) -> torch.Tensor:
    """Return numbers [B, Q, ...] that are dense but for the step from query to query."""
    is_steady = tensor.stride(0) == tensor.shape[1] * tensor.stride(1)
    return tensor if is_steady and tensor[:1, :1].is_contiguous() else tensor.contiguous()
