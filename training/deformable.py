"""Deformable attention on a CPU by C kernels, which halves the time of a training step.

The forward kernel is the service's own; the backward kernel is compiled here. transformers' code is
the reference in the tests, and runs on a GPU or without a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prelabel.engines.huggingface import replace_port_attention
from prelabel.engines.kernels.arguments import pointers, sizes
from prelabel.engines.kernels.deformable_attention import weighted_by_kernel
from prelabel.engines.kernels.library import kernels

_SOURCE = Path(__file__).resolve().with_name("deformable.c")
_HEAD_WIDTH = 32  # C in deformable.c
# Without start files: with -ffast-math, one of them makes the whole process flush denormals to 0.
_FLAGS = ("-O3", "-march=native", "-ffast-math", "-nostartfiles", "-fopenmp", "-shared", "-fPIC")


@cache
def compile_kernel(folder: Path) -> ctypes.CDLL | None:
    """Return the kernel of the gradients, compiled into `folder` unless it is there already.

    Returns None without a compiler, or if the service's kernels were not built.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or kernels() is None:
        return None
    content = _SOURCE.read_bytes() + " ".join(_FLAGS).encode()
    digest = hashlib.sha256(content).hexdigest()[:12]
    library = folder / f"deformable-{digest}.so"
    if not library.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(unfinished), "-lm"]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
        unfinished.replace(library)
    return ctypes.CDLL(str(library))


def use_kernel(model: nn.Module, kernel: ctypes.CDLL) -> None:
    """Let all deformable attention of the model run in the kernels. The weights stay the same."""
    replace_port_attention(model, partial(_sample, kernel))


def _sample(
    kernel: ctypes.CDLL,
    value: torch.Tensor,
    levels_hw: torch.Tensor,
    reference: torch.Tensor,
    offsets: torch.Tensor,
    logits: torch.Tensor,
) -> torch.Tensor:
    """Sample with gradients: a `Sampler`."""
    if value.shape[-1] != _HEAD_WIDTH:
        raise ValueError(f"The kernel is written for heads of {_HEAD_WIDTH} channels.")
    weights = logits.softmax(-1)
    sampled: torch.Tensor = _Sample.apply(kernel, value, levels_hw, reference, offsets, weights)
    return sampled


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: ctypes.CDLL, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.kernel = kernel
        value, levels_hw, *others = tensors
        value, *others = (tensor.float().contiguous() for tensor in (value, *others))
        inputs = (value, levels_hw.contiguous(), *others)
        ctx.save_for_backward(*inputs)
        return weighted_by_kernel(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_out: torch.Tensor) -> Any:
        value, _levels_hw, reference, offsets, weights = ctx.saved_tensors
        grads = [torch.zeros_like(tensor) for tensor in (value, offsets, weights)]
        batch, positions, heads, _width = value.shape
        _, queries, _, levels, points, _ = offsets.shape
        ctx.kernel.backward(
            *pointers(*ctx.saved_tensors, grad_out.float().contiguous(), *grads),
            *sizes(batch, positions, heads, queries, levels, points, reference.shape[-1]),
        )
        return None, grads[0], None, None, grads[1], grads[2]
