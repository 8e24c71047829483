"""The slow engine of the benchmarks, which also counts the pictures of each detector.

No `from __future__ import annotations` here, as in serve_app.py.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.serve import Application

from benchmarks.cost_app import CostEngine
from prelabel.checkpoints.cards import ModelCard
from prelabel.settings import AppSettings
from prelabel.types import RawDetections
from serve_app import bind_app

FOLDER_VARIABLE = "COUNTED_APP_FOLDER"


class CountedEngine(CostEngine):
    """Writes the size of each batch to a file that is named after the process."""

    def detect(self, items: Sequence[Any]) -> list[RawDetections]:
        """Write the size of the batch and answer as the slow engine."""
        with (Path(os.environ[FOLDER_VARIABLE]) / str(os.getpid())).open("a") as file:
            file.write(f"{len(items)}\n")
        return super().detect(items)


def load_counted_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> CountedEngine:
    """An `EngineLoader`."""
    del card, folder, device, precision, cpu_threads
    return CountedEngine(0.1, 0.1)


def build_counted_app(settings: AppSettings) -> Application:
    return bind_app(settings, load_counted_engine)


def pictures_by_process(folder: Path) -> dict[str, int]:
    """Return the number of pictures that each detector's process has seen."""
    return {
        file.name: sum(int(line) for line in file.read_text().splitlines())
        for file in folder.iterdir()
    }
