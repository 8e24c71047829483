"""The figures of benchmarks/results, for tables and plots."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.support.paths import ROOT

_FOLDER = ROOT / "benchmarks" / "results"
# Names of the processors' kinds as benchmarks/run.py writes them, and as readers know them.
KINDS = {"amx": "Intel, AMX", "avx512": "AMD, AVX-512", "avx2": "AMD, AVX2"}


@dataclass(frozen=True)
class Results:
    """All figures that were measured on one kind of processor."""

    kind: str
    figures: dict[str, float]

    @property
    def title(self) -> str:
        """The processor's name for readers."""
        return KINDS[self.kind]

    def seconds_of_a_pass(self, size: str) -> tuple[float, float]:
        """Return the seconds of groundingdino-py's pass and of this project's, Swin-T, float32.

        size: "640x640" or "800x1333".
        """
        library_s = self.figures[f"groundingdino_py_{size}_s"]
        return library_s, library_s / self.figures[f"cpu_engine_speedup_{size}_float32"]


def all_results() -> list[Results]:
    """Return the results of all kinds of processors."""
    return [
        Results(kind, json.loads((_FOLDER / f"{kind}.json").read_text(encoding="utf-8"))["figures"])
        for kind in KINDS
    ]
