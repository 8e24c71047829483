"""The shared library of C kernels, built on installation if there is a compiler."""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)


@cache
def kernels() -> ctypes.CDLL | None:
    """Return the library of this installation; None if it was not built, or cannot be loaded."""
    # setuptools builds and names it as an extension module, but it has no Python interface.
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name("_kernels" + suffix)
        if path.is_file():
            return load_kernels(path)
    return None


def load_kernels(path: Path) -> ctypes.CDLL | None:
    """Return the library in a file; None, with a warning in the log, if it cannot be loaded."""
    _load_openmp()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        logger.warning(
            "The C kernels cannot be loaded (%s), so that detection on a CPU takes two to three "
            "times as long. Install prelabel again where it runs.",
            error,
        )
        return None


def _load_openmp() -> None:
    """Load PyTorch's OpenMP library, which the kernels use, without PyTorch.

    The system need not have one (the image has none), and a process of the service may need the
    kernels and never import PyTorch.
    """
    torch = find_spec("torch")
    if torch is not None and torch.origin is not None:
        with suppress(OSError):
            ctypes.CDLL(str(Path(torch.origin).with_name("lib") / "libgomp.so.1"))


@dataclass(frozen=True, slots=True)
class LinearKernels:
    """The functions of linear_amx.c or linear_fma.h, which describe their arguments."""

    packed_size: ctypes._NamedFuncPointer
    pack: ctypes._NamedFuncPointer
    run: ctypes._NamedFuncPointer
    run_both: ctypes._NamedFuncPointer | None


@cache
def linear_kernels() -> LinearKernels | None:
    """Return the kernels of linear layers for this processor; None if PyTorch is faster on it."""
    library = kernels()
    for kind in ("amx", "avx512", "avx2"):
        if library is not None and library[f"{kind}_is_available"]():
            return linear_kernels_of(library, kind)
    return None


def linear_kernels_of(library: ctypes.CDLL, kind: str) -> LinearKernels:
    """Return the kernels of a kind, whether the processor can run them or not."""
    packed_size = library[f"{kind}_packed_size"]
    packed_size.restype = ctypes.c_int64
    run_both = None if kind == "amx" else library[f"{kind}_run_both"]
    return LinearKernels(packed_size, library[f"{kind}_pack"], library[f"{kind}_run"], run_both)
