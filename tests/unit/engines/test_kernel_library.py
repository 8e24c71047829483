"""The library of C kernels is loaded without PyTorch, and the service runs without it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from prelabel.engines.kernels.library import load_kernels

# An image has PyTorch's OpenMP library only.
SCRIPT = """
import sys
from pathlib import Path
from prelabel.engines.kernels.library import kernels
assert kernels() is not None
assert "torch" not in sys.modules
loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
print(*sorted(path for path in loaded if "gomp" in path))
"""


def test_the_kernels_use_the_openmp_of_pytorch_without_an_import_of_pytorch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    [openmp] = done.stdout.split()
    assert openmp.endswith("/torch/lib/libgomp.so.1")


def test_a_library_that_cannot_be_loaded_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "_kernels.so"
    damaged.write_bytes(b"\x7fELF")
    with caplog.at_level(logging.WARNING):
        assert load_kernels(damaged) is None
    assert "Install prelabel again" in caplog.text
