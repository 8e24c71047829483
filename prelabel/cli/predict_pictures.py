"""Predictions of picture files by a running service: several at a time, in the files' order."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from prelabel.cli.drawing import DrawnBox, draw_boxes
from prelabel.cli.picture_files import PictureFile, ResultPaths, Results
from prelabel.cli.service_client import (
    NOT_NOW,
    RequestTooLargeError,
    ServiceClient,
    ServiceTimeoutError,
    TaskFailedError,
)
from prelabel.cli.terminal import counted, readable
from prelabel.errors import ImageDecodeError, PrelabelError
from prelabel.images.decode import decode_image
from prelabel.labelstudio.responses import Prediction
from prelabel.settings import AppSettings
from prelabel.types import ImageRGB

_PAUSE_S: Final = 2.0
_AHEAD: Final = 2  # requests that are prepared, for each that runs
_TRIED_AGAIN = (*NOT_NOW, ServiceTimeoutError)
# Faults of all pictures alike: the first one ends the run.
_OF_THE_PROMPT: Final = frozenset(("PromptError", "LabelingConfigError"))


class OutputFileError(PrelabelError):
    """A result cannot be written."""


@dataclass(frozen=True, slots=True)
class Request:
    """Prompt, labels and thresholds of all pictures of a run.

    Attributes:
        prompt: The user's prompt.
        labels: Labels of the labeling config that is sent along.
        kept: Labels whose boxes are kept; their order chooses the strokes.
        thresholds: `box_threshold` and `text_threshold`; None for the service's own.
        masks: Request masks beside the boxes.
    """

    prompt: str
    labels: tuple[str, ...]
    kept: tuple[str, ...]
    thresholds: Mapping[str, float | None]
    masks: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture that was read.

    Attributes:
        picture: The file.
        results: Its results' files.
        content: Its bytes.
        upright: Its pixels.
    """

    picture: PictureFile
    results: Results
    content: bytes
    upright: ImageRGB


@dataclass(frozen=True, slots=True)
class Outcome:
    """The prediction of a picture, or the reason why there is none.

    Attributes:
        picture: The file.
        boxes: Best first.
        prediction: As the service answered, with the kept labels.
        files: The drawing, and the file of the prediction if there is one.
        notes: Sentences about parts that were left out.
        error: The reason; None if there is a prediction.
    """

    picture: Path
    boxes: Sequence[DrawnBox] = ()
    prediction: Prediction | None = None
    files: Sequence[Path] = ()
    notes: Sequence[str] = ()
    error: str | None = None

    def facts(self) -> dict[str, object]:
        """Return the outcome for a program."""
        if self.error is not None:
            return {"picture": readable(self.picture), "error": self.error}
        return {
            "picture": readable(self.picture),
            "drawing": readable(self.files[0]),
            "prediction": self.prediction,
        }

    def sentence(self) -> str:
        """Return the number of boxes, and of those of each label."""
        counts = Counter(box.label for box in self.boxes)
        listed = ", ".join(f"{count} {label}" for label, count in counts.most_common())
        boxes = counted(len(self.boxes), "box", "boxes")
        return f"{boxes}: {listed}" if listed else "no box"


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts pictures and writes their results. Its methods can be called from any thread.

    Attributes:
        client: The service.
        request: Prompt, labels and thresholds.
        paths: The results' files.
        patience_s: Longest wait for a service that is busy or starting, seconds.
    """

    client: ServiceClient
    request: Request
    paths: ResultPaths
    patience_s: float = 0

    def prepare(self, picture: PictureFile, results: Results | None = None) -> Prepared:
        """Read and decode a picture.

        Raises ImageDecodeError if it cannot be read or decoded, or would be overwritten.
        """
        results = results or self.paths.of(picture)
        try:
            content = picture.path.read_bytes()
        except OSError as error:
            raise ImageDecodeError(
                f"Cannot read {readable(picture.path)}: {error.strerror}. Check its path."
            ) from error
        upright = decode_image(content, max_pixels=AppSettings().images.max_pixels)
        return Prepared(picture, results, content, upright)

    def predict(self, prepared: Prepared) -> Outcome:
        """Predict a picture and write its results.

        Raises:
            ServiceError: The service gave no prediction.
            OutputFileError: A file cannot be written.
        """
        prediction = self._ask(prepared.content)
        boxes = _keep_boxes(prediction, self.request.kept)
        drawing = draw_boxes(Image.fromarray(prepared.upright), boxes, self.request.kept)
        files = _write(drawing, prediction, prepared.results)
        notes = prediction.get("notes", ())
        return Outcome(prepared.picture.path, boxes, prediction, files, notes)

    def _ask(self, content: bytes) -> Prediction:
        request = self.request
        give_up_at = time.monotonic() + self.patience_s
        while True:
            try:
                return self.client.predict(
                    content,
                    request.prompt,
                    labels=request.labels,
                    thresholds=request.thresholds,
                    masks=request.masks,
                )
            except _TRIED_AGAIN:
                if time.monotonic() + _PAUSE_S > give_up_at:
                    raise
                time.sleep(_PAUSE_S)


def outcomes(
    predictor: Predictor, pictures: Sequence[PictureFile], concurrency: int
) -> Iterator[Outcome]:
    """Yield the outcome of each picture, in order. A fault of one picture is its outcome.

    Raises ServiceError and OutputFileError for faults that concern all pictures.
    """

    def run(picture: PictureFile, results: Results) -> Outcome:
        try:
            return predictor.predict(predictor.prepare(picture, results))
        except TaskFailedError as error:
            if error.error_type in _OF_THE_PROMPT:
                raise
            return Outcome(picture.path, error=str(error))
        except (ImageDecodeError, RequestTooLargeError) as error:
            return Outcome(picture.path, error=str(error))

    executor = ThreadPoolExecutor(concurrency)
    waiting: deque[Future[Outcome]] = deque()
    try:
        for picture in pictures:
            waiting.append(executor.submit(run, picture, predictor.paths.of(picture)))
            if len(waiting) >= _AHEAD * concurrency:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _write(drawing: Image.Image, prediction: Prediction, results: Results) -> list[Path]:
    files = [results.drawing] if results.json is None else [results.drawing, results.json]
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        drawing.save(results.drawing)
        if results.json is not None:
            text = json.dumps(prediction, indent=2, ensure_ascii=False) + "\n"
            results.json.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: Pillow knows no format of that name
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OutputFileError(
            f"Cannot write {' or '.join(map(readable, files))} ({reason}). Choose another --output."
        ) from error
    return files


def _keep_boxes(prediction: Prediction, labels: Sequence[str]) -> list[DrawnBox]:
    """Drop the regions without a kept label from the prediction; return the rest as boxes."""
    regions = [region for region in prediction["result"] if region["type"] != "textarea"]
    boxes = [
        region
        for region in regions
        if region["value"].get("rectanglelabels", [""])[0] in labels
        and region["type"] == "rectanglelabels"
    ]
    kept = {region["id"] for region in boxes}
    masks = {region["parentID"]: region for region in regions if region.get("parentID") in kept}
    prediction["result"] = [r for r in regions if r["id"] in kept or r.get("parentID") in kept]
    return [DrawnBox.of(region, masks.get(region["id"])) for region in boxes]
