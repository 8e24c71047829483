"""One detector, and one segmenter beside it, loaded on one device behind their batch gates."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from prelabel.checkpoints.cards import ModelCard, SegmenterCard, model_folder
from prelabel.detection.batching import BatchGate, device_thread
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import PictureReader
from prelabel.detection.smoke_test import check_engine
from prelabel.detection.suppression import Suppression
from prelabel.detection.tiling import Tiling
from prelabel.engines import EngineLoader, load_segmenter
from prelabel.engines.base import PreparedItem
from prelabel.images.decode_pool import DecodePool
from prelabel.observability.timing import Observe, ignore_stage
from prelabel.segmentation.grounded import GroundedSegmenter
from prelabel.segmentation.segmenter import DecodeGate, EncodeGate, PictureSegmenter
from prelabel.segmentation.smoke_test import check_segmenter
from prelabel.segmentation.views import ViewRule
from prelabel.settings import AppSettings
from prelabel.types import RawDetections

logger = logging.getLogger(__name__)

_SWITCH_S = 0.0005
_CPU_PREPARE_THREADS = 2  # beside a model on the same cores; one alone would wait for the queue
BROKEN_AFTER_FAILURES = 8


@dataclass(frozen=True, slots=True)
class DeviceResources:
    """The device of the models and the resources beside it.

    Attributes:
        device: Where the models run.
        cpu_threads: Threads of a model on a CPU.
        decode_processes: Processes that decode pictures beside a GPU.
    """

    device: Literal["cpu", "cuda"]
    cpu_threads: int
    decode_processes: int


@dataclass(frozen=True, slots=True)
class DeviceObservers:
    """Functions that are called with sizes and durations; ignored by default.

    Attributes:
        stage: Called with a stage and its seconds, in the context of a query.
        gate: The same for the stages of the gate of the detector.
        batch: Called with the size of each batch of the detector.
        trace: `BatchGate`'s `trace`, of the gate of the detector.
    """

    stage: Observe = ignore_stage
    gate: Observe = ignore_stage
    batch: Callable[[int], None] | None = None
    trace: Observe | None = None


class DeviceModels:
    """The models of one device. Both share its thread and the decoded picture; see ADR 9.

    Attributes:
        pictures: Answers the queries.
        gate: The gate of the detector.
        gates: All gates.

    Args:
        settings: The application's settings.
        card: The detector's card.
        segmenter: The segmenter's card, None for boxes alone.
        resources: The device.
        load: Loads the detector.
        observers: Receive sizes and durations.

    Raises:
        ModelError, DeviceError: A model cannot be loaded, or fails on a generated picture.
    """

    def __init__(
        self,
        settings: AppSettings,
        card: ModelCard,
        segmenter: SegmenterCard | None,
        resources: DeviceResources,
        load: EngineLoader,
        observers: DeviceObservers | None = None,
    ) -> None:
        self._settings, self._resources = settings, resources
        self._observers = observers = observers or DeviceObservers()
        device = device_thread()
        engine = device.submit(
            load,
            card,
            model_folder(card, settings.model.folder),
            device=resources.device,
            precision=settings.model.precision,
            cpu_threads=resources.cpu_threads if resources.device == "cpu" else None,
        ).result()
        verdict = device.submit(check_engine, engine, card.name).result()
        self.gate: BatchGate[PreparedItem, RawDetections] = BatchGate(
            engine.detect,
            max_batch_size=settings.detection.max_batch_size,
            on_batch=observers.batch,
            observe=observers.gate,
            trace=observers.trace,
            device=device,
        )
        self.gates: list[BatchGate[Any, Any]] = [self.gate]
        reader = self._picture_reader()
        self.pictures = GroundedSegmenter(
            reader,
            PictureDetector(
                settings.detection,
                settings.cache,
                engine,
                self.gate,
                reader,
                settings.review,
                observers.stage,
            ),
            self._segmenter(segmenter, device, reader) if segmenter else None,
            Suppression.of(settings.detection),
            settings.masks.max_masks,
        )
        logger.info("%s is ready: %s. %s. %s", card.name, verdict, card.title, card.limits)

    @property
    def fails(self) -> bool:
        """True if a model failed on the last batches without any result."""
        return any(gate.failures_in_a_row >= BROKEN_AFTER_FAILURES for gate in self.gates)

    def _segmenter(
        self, card: SegmenterCard, device: ThreadPoolExecutor, reader: PictureReader
    ) -> PictureSegmenter:
        settings = self._settings
        engine = device.submit(
            load_segmenter,
            card,
            model_folder(card, settings.model.folder),
            device=self._resources.device,
            precision=settings.model.precision,
        ).result()
        verdict = device.submit(check_segmenter, engine, card.name).result()
        logger.info("%s is ready: %s. %s. %s", card.name, verdict, card.title, card.limits)
        most = settings.detection.max_batch_size
        encoder: EncodeGate = BatchGate(engine.encode, max_batch_size=most, device=device)
        decoder: DecodeGate = BatchGate(engine.decode, max_batch_size=most, device=device)
        self.gates += [encoder, decoder]
        return PictureSegmenter(
            ViewRule(Tiling.of(settings.detection), card.square_views, settings.masks.box_margin),
            most,
            settings.cache,
            engine,
            encoder,
            decoder,
            reader,
            self._observers.stage,
        )

    def _picture_reader(self) -> PictureReader:
        """Return a reader that decodes beside a GPU in processes, and on a CPU in threads."""
        settings = self._settings
        common: dict[str, Any] = {
            "max_pixels": settings.images.max_pixels,
            # One batch runs and one waits.
            "max_bulk": 2 * settings.detection.max_batch_size,
            "observe": self._observers.stage,
        }
        if self._resources.device == "cpu":
            return PictureReader(settings.cache, threads=_CPU_PREPARE_THREADS, **common)
        # Python's default of 5 ms is a third of a pass: for so long a thread that has an answer of
        # a decoder waits for the thread that launches kernels, or the latter for the former.
        sys.setswitchinterval(_SWITCH_S)
        threads = self._resources.decode_processes
        pool = DecodePool(threads + 1)  # one for the urgent pictures' thread
        return PictureReader(settings.cache, threads=threads, decode=pool, **common)
