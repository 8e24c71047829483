"""Runs over pictures in no project, with an engine that counts its passes in place of the model."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prelabel.checkpoints.cards import ModelCard
from prelabel.labelstudio.task_rows import boxes_config
from prelabel.offline.folders import FolderSource, PictureAddress
from prelabel.offline.items import Source
from prelabel.offline.manifest import Manifest
from prelabel.offline.pictures import picture_reader
from prelabel.offline.predictor import LocalPredictor, Search
from prelabel.offline.results import ResultFolder, shard_paths
from prelabel.offline.run import OfflineRun, Progress
from prelabel.segmentation.device_models import DeviceResources
from prelabel.settings import AppSettings, Environment
from prelabel.types import RawDetections
from tests.support.counting_engine import CountingEngine, Item, encoded

LABELS = ("cat", "dog")
SEARCH = Search(boxes_config(LABELS))
ADDRESS = PictureAddress("image", False, "/data/local-files/?d=photos/")


class NotingEngine(CountingEngine):
    """Adds a character to a file for each picture that passes, so that all processes' count."""

    def __init__(self, notes: Path, seconds: float) -> None:
        super().__init__(seconds=seconds)
        self._notes = notes

    def detect(self, items: Sequence[Item]) -> list[RawDetections]:
        with self._notes.open("ab") as file:
            file.write(b"." * len(items))
        return super().detect(items)


def counting_predictor(
    engine: CountingEngine | None = None, base: Path = Path("/"), search: Search = SEARCH
) -> LocalPredictor:
    engine = engine or CountingEngine()

    def load(
        card: ModelCard,
        folder: Path,
        *,
        device: str,
        precision: str,
        cpu_threads: int | None = None,
    ) -> CountingEngine:
        return engine

    return LocalPredictor(
        AppSettings(),
        search,
        DeviceResources("cpu", 1, 1),
        picture_reader(AppSettings(), Environment(), base),
        load,
    )


def manifest(folder: Path, version: str = "demo-1", search: Search = SEARCH) -> Manifest:
    return Manifest.of(str(folder), version, search, ADDRESS.prefix)


def annotate(
    source: Source, output: Path, predictor: LocalPredictor, *, shard_rows: int = 1000
) -> Progress:
    results = ResultFolder(output, manifest(Path("input")), shard_rows)
    try:
        return OfflineRun(source, predictor, results, chunk=4, observe=lambda _: None).run()
    finally:
        results.close()


def pictures_in(folder: Path, count: int) -> Path:
    """Make different pictures in two levels of folders."""
    for number in range(count):
        path = folder / f"{number % 3}" / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(colour=f"#{number:06x}"))
    return folder


def rows_in(output: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in shard_paths(output) for line in path.read_bytes().splitlines()
    ]


def keys_in(output: Path) -> Counter[str]:
    return Counter(row["meta"]["prelabel"]["input"] for row in rows_in(output))


def main(pictures: str, output: str, notes: str) -> None:
    """Annotate a folder; a test kills the process."""
    predictor = counting_predictor(NotingEngine(Path(notes), seconds=0.02))
    annotate(FolderSource(Path(pictures), ADDRESS), Path(output), predictor, shard_rows=25)
    predictor.close()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
