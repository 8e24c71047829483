"""The service's pipeline in this process: tasks -> predictions, without HTTP and without Ray."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from itertools import count

from prelabel.checkpoints.cards import (
    check_installed,
    installed_segmenter,
    load_card,
    model_folder,
    text_encoder_folder,
)
from prelabel.checkpoints.version import model_version
from prelabel.detection.suppression import Suppression
from prelabel.engines import EngineLoader, load_engine
from prelabel.errors import ImageFetchError, PrelabelError
from prelabel.images.source import ImageSource
from prelabel.labelstudio.prediction_builder import PredictionBuilder
from prelabel.labelstudio.protocol import PredictRequest
from prelabel.labelstudio.responses import Prediction
from prelabel.labelstudio.task_rows import RowPicture, to_line, to_row_picture
from prelabel.offline.items import Item, Read
from prelabel.phrases.matching import load_words
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.pipeline import Entry, PipelinePorts, Predictor
from prelabel.segmentation.device_models import DeviceModels, DeviceResources
from prelabel.segmentation.grounded import DetectionOutcome
from prelabel.settings import AppSettings
from prelabel.settings.openmp import spin_briefly
from prelabel.types import (
    DetectionQuery,
    Detections,
    LookPlan,
    ProjectPrompts,
    PromptRequest,
    SegmentationQuery,
    TaskPlan,
)

_NO_DEADLINE_S = 7 * 24 * 3600.0  # no client waits


@dataclass(frozen=True, slots=True)
class Search:
    """Labels and prompt that all tasks of a run share.

    Attributes:
        label_config: The labeling config.
        prompt: Prompt and thresholds of the run, as `annotate --project` sends them.
    """

    label_config: str
    prompt: PromptRequest = field(default_factory=PromptRequest)


@dataclass(frozen=True, slots=True)
class Row:
    """The prediction of an item, as a line of JSON with its end."""

    key: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """An item without a prediction.

    Attributes:
        key: Its key.
        reason: A sentence.
        is_unfetched: True if the picture did not arrive, which may be a fault of the moment.
    """

    key: str
    reason: str
    is_unfetched: bool = False


class LocalPredictor:
    """Predicts items with one device's models. The models load in the constructor.

    Attributes:
        version: The model version, that of a service with the same settings.

    Args:
        settings: The application's settings.
        search: Labels and prompt.
        resources: The device.
        read: Reads pictures by path or address.
        load: Loads the detector.

    Raises:
        ModelError, DeviceError: A model is missing or cannot be loaded.
    """

    def __init__(
        self,
        settings: AppSettings,
        search: Search,
        resources: DeviceResources,
        read: Read,
        load: EngineLoader = load_engine,
    ) -> None:
        card = load_card(settings.model.name)
        folder = model_folder(card, settings.model.folder)
        segmenter = installed_segmenter(settings)
        self.version = version_of(settings)
        self._search, self._read = search, read
        self._numbers = count(1)
        self._items: dict[int, Item] = {}  # in progress, by the id of their task
        self._pictures: dict[int, tuple[RowPicture, ...]] = {}
        load_words()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pipeline", daemon=True)
        self._thread.start()
        self._models = DeviceModels(settings, card, segmenter, resources, load)
        self._builder = PredictionBuilder(
            Suppression.of(settings.detection), settings.masks, self.version
        )
        self._images = ImageSource(self._download, max_cached_bytes=0, max_cached_s=0)
        limits = settings.limits.model_copy(
            update={"request_deadline_s": _NO_DEADLINE_S, "max_answer_bytes": sys.maxsize}
        )
        self._predictor = Predictor(
            settings.model_copy(update={"limits": limits}),
            self.version,
            PipelinePorts(
                recall=self._recall,
                fetch=self._images.fetch,
                detect=self._detect,
                segment=self._segment,
                postprocess=self._postprocess,
                seen=self._note_pictures,
            ),
            vocabulary=Vocabulary.from_folder(text_encoder_folder(card, folder)),
        )

    @property
    def fails(self) -> bool:
        """True if the model failed on all of the last batches."""
        return self._models.fails

    def predict(self, items: Sequence[Item]) -> Future[list[Row | Failure]]:
        """Start the predictions of items. The result has one entry per item, in order."""
        return asyncio.run_coroutine_threadsafe(self._predict(items), self._loop)

    def close(self) -> None:
        """End the pipeline; predictions in progress are dropped."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _predict(self, items: Sequence[Item]) -> list[Row | Failure]:
        numbered = {next(self._numbers): item for item in items}
        self._items |= numbered
        try:
            request = PredictRequest.model_validate(
                {
                    "tasks": [{"id": each, "data": item.data} for each, item in numbered.items()],
                    "label_config": self._search.label_config,
                    "params": asdict(self._search.prompt),
                }
            )
            entries = await self._predictor.predict(request)
            return [
                self._outcome(number, item, entry)
                for (number, item), entry in zip(numbered.items(), entries, strict=True)
            ]
        finally:
            for number in numbered:
                self._items.pop(number)
                self._pictures.pop(number, None)

    def _outcome(self, number: int, item: Item, entry: Entry) -> Row | Failure:
        if "error" in entry:
            is_unfetched = entry["error_type"] == ImageFetchError.__name__
            return Failure(item.key, entry["error"], is_unfetched)
        line = to_line(item.key, item.data, item.more, entry, self._pictures[number])
        return Row(item.key, line)

    def _download(self, address: str, task_id: int | None) -> bytes:
        place = self._items[task_id].place if task_id is not None else None
        return self._read(place or address)

    async def _recall(self, _project: str) -> ProjectPrompts:
        return ProjectPrompts()

    async def _detect(self, query: DetectionQuery) -> Detections:
        return _value(await self._models.pictures.detect(query))

    async def _segment(self, query: SegmentationQuery) -> Detections:
        return _value(await self._models.pictures.segment(query))

    async def _postprocess(self, plan: TaskPlan, detections: Sequence[Detections]) -> Prediction:
        return self._builder.build(plan, detections)

    def _note_pictures(
        self, task_id: int | None, looks: Sequence[LookPlan], detections: Sequence[Detections]
    ) -> None:
        if task_id is not None:
            file = self._items[task_id].key if self._items[task_id].place else None
            self._pictures[task_id] = tuple(
                to_row_picture(look, found.image_wh, file)
                for look, found in zip(looks, detections, strict=True)
            )


def version_of(settings: AppSettings) -> str:
    """Return the model version of a service with these settings.

    Raises ModelError if a model is not installed.
    """
    card = load_card(settings.model.name)
    folder = model_folder(card, settings.model.folder)
    check_installed(card, folder)
    return model_version(card, folder, settings, installed_segmenter(settings))


def local_resources(device: str) -> DeviceResources:
    """Return the device that a setting means on this machine, with all cores of this process.

    Raises DeviceError if there is none.
    """
    spin_briefly()
    # Imported late, because torch takes seconds to import.
    from prelabel.engines.device import resolve_placement

    cores = len(os.sched_getaffinity(0))
    on_gpu = resolve_placement(device, "auto").device.type == "cuda"
    return DeviceResources("cuda" if on_gpu else "cpu", cores, max(1, cores - 1))


def _value(outcome: DetectionOutcome) -> Detections:
    if isinstance(outcome, PrelabelError):
        raise outcome
    return outcome
