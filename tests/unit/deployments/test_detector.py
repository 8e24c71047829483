import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployments.detector import Detector
from deployments.placement import DetectorPlace
from prelabel.checkpoints.cards import ModelCard, load_card
from prelabel.settings import AppSettings
from prelabel.types import Detections, RawDetections
from tests.support.counting_engine import CountingEngine, Item, query


def test_the_thread_that_loads_a_model_is_the_only_one_that_runs_it() -> None:
    threads = []

    class Engine(CountingEngine):
        def detect(self, items: Sequence[Item]) -> list[RawDetections]:
            threads.append(threading.get_ident())
            return super().detect(items)

    def load(
        card: ModelCard,
        folder: Path,
        *,
        device: str,
        precision: str,
        cpu_threads: int | None = None,
    ) -> Engine:
        assert (device, cpu_threads) == ("cpu", 2)
        threads.append(threading.get_ident())
        return Engine()

    async def ask() -> list[Any]:
        place = DetectorPlace("cpu", {})
        detector = Detector(AppSettings(), load_card("demo"), place, load, cpu_threads=lambda: 2)
        return [await detector.pictures.detect(query(phrases=(word,))) for word in ("cat", "dog")]

    assert all(isinstance(found, Detections) for found in asyncio.run(ask()))
    assert len(threads) == 4  # to load it, to check it, and for each of two queries
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
