"""Answers the requests of the page. Nothing is stored, and no other server is contacted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import numpy as np

from prelabel import __version__
from prelabel.boxes import px_to_pct
from prelabel.errors import DeadlineError, PromptError
from prelabel.masks.polygons import polygons
from prelabel.observability.journal import Report
from prelabel.playground.candidates import FLOOR, candidates_answer
from prelabel.playground.examples import Example, load_examples
from prelabel.playground.exports import Exporter
from prelabel.playground.pictures import max_image_bytes, read_picture
from prelabel.playground.prompted_config import PromptedConfig
from prelabel.playground.protocol import (
    MAX_MASKS,
    CandidatesAnswer,
    CandidatesRequest,
    DefaultsAnswer,
    ExampleAnswer,
    ExportRequest,
    FactsAnswer,
    MasksAnswer,
    MasksRequest,
    ModelAnswer,
    SecondsAnswer,
    SegmenterAnswer,
)
from prelabel.prompts.messages import NO_SEGMENTER
from prelabel.service import Service
from prelabel.settings import MaskSettings
from prelabel.types import DetectionQuery, MaskLogits, MaskPrompt, SegmentationQuery

_QUALITY_DECIMALS: Final = 4


class Playground:
    """The requests of the page, except for its files. All methods belong to one event loop.

    Args:
        service: Its models, ports, settings and journal are used.

    Attributes:
        examples: The demo pictures by name.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self.examples: Mapping[str, Example] = load_examples()
        self._exporter = Exporter(
            service.settings,
            service.model.version,
            self.examples,
            has_auth=service.environment.has_basic_auth,
        )

    def facts(self) -> FactsAnswer:
        """Return what the page says about the service, and the limits that it keeps."""
        settings, model = self._settings, self._service.model
        card, segmenter, detection = model.card, model.segmenter, settings.detection
        return FactsAnswer(
            model=ModelAnswer(
                name=card.name, title=card.title, limits=card.limits, source=card.source
            ),
            model_version=model.version,
            segmenter=None
            if segmenter is None
            else SegmenterAnswer(name=segmenter.name, title=segmenter.title),
            service_version=__version__,
            knows=list(card.knows),
            examples=[_example_answer(example) for example in self.examples.values()],
            defaults=DefaultsAnswer(
                box_threshold=detection.box_threshold,
                text_threshold=detection.text_threshold,
                nms_iou_threshold=detection.nms_iou_threshold,
                nms_class_agnostic=detection.nms_class_agnostic,
                max_boxes=detection.max_boxes,
                min_box_px=detection.min_box_px,
            ),
            floor=FLOOR.box,
            max_image_bytes=max_image_bytes(settings),
            max_image_pixels=settings.images.max_pixels,
            max_prompt_chars=settings.prompts.max_chars,
            max_masks=MAX_MASKS,
        )

    async def candidates(self, request: CandidatesRequest) -> CandidatesAnswer:
        """Return every box over the floor, before thresholds and suppression.

        The picture goes to the front of the queue, as that of an annotator does, and the model's
        results are cached: a later predict request for it costs no second pass.

        Raises:
            PromptError: The prompt and the labels leave nothing to look for.
            ImageError: The picture cannot be used.
            PayloadTooLargeError: The picture is too large.
            DeadlineError: The detector did not answer in time.
        """
        started = time.monotonic()
        service, settings = self._service, self._settings
        prompted = PromptedConfig.of(request.prompt, request.labels, settings.prompts.max_chars)
        plan = prompted.plan(settings, service.model.vocabulary, FLOOR)
        [look] = plan.looks
        async with self._deadline():
            image = await read_picture(request.image, self.examples, self._settings)
            asked = time.monotonic()
            with self._service.tracer.span("detect"):
                query = DetectionQuery(
                    image, look.phrases, look.thresholds, urgent=True, candidates=True
                )
                detections = await self._service.ports.detect(query)
        answered = time.monotonic()
        self._service.report(Report({"playground_requests": 1}))
        seconds = SecondsAnswer(total=answered - started, model=answered - asked)
        # In a thread, because a thousand boxes take some ten milliseconds.
        return await asyncio.to_thread(
            candidates_answer, plan, prompted.labels, detections, service.model.version, seconds
        )

    async def masks(self, request: MasksRequest) -> MasksAnswer:
        """Return the outlines of the masks in boxes. Overlaps of masks are kept.

        The masks are those of a prediction with the same boxes.

        Raises:
            PromptError: The service has no segmenter.
            ImageError: The picture cannot be used.
            PayloadTooLargeError: The picture is too large.
            DeadlineError: The segmenter did not answer in time.
        """
        if self._service.model.segmenter is None:
            raise PromptError(NO_SEGMENTER)
        async with self._deadline():
            image = await read_picture(request.image, self.examples, self._settings)
            boxes_pct = px_to_pct(np.array(request.boxes_xyxy, np.float64), request.image_wh)
            prompts = tuple(
                MaskPrompt(box_xyxy=(x0, y0, x1, y1)) for x0, y0, x1, y1 in boxes_pct.tolist()
            )
            with self._service.tracer.span("segment"):
                found = await self._service.ports.segment(
                    SegmentationQuery(image, prompts, urgent=True)
                )
        self._service.report(Report({"playground_requests": 1}))
        masks = found.masks or ()
        settings = self._settings.masks
        outlines = await asyncio.to_thread(_outlines, masks, found.image_wh, settings)
        qualities = found.scores.astype(np.float64).round(_QUALITY_DECIMALS).tolist()
        return MasksAnswer(polygons=outlines, qualities=qualities)

    async def export(self, request: ExportRequest) -> str:
        """Return what the page shows as XML, JSON or a command of a shell.

        Raises:
            PromptError: The prompt names nothing to look for.
        """
        return await asyncio.to_thread(self._exporter.export, request)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        seconds = self._settings.limits.request_deadline_s
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise DeadlineError(
                f"The picture was not done within {seconds:g} s. Try again when the service has "
                "less to do."
            ) from None


def _example_answer(example: Example) -> ExampleAnswer:
    width, height = example.wh
    return ExampleAnswer(
        name=example.name,
        title=example.title,
        prompt=example.prompt,
        labels=list(example.labels),
        width=width,
        height=height,
        file=example.path.name,
        thumbnail=f"playground/examples/thumbnails/{example.name}.jpg",
    )


def _outlines(
    masks: tuple[MaskLogits | None, ...], image_wh: tuple[int, int], settings: MaskSettings
) -> list[list[list[tuple[float, float]]]]:
    most = 1 if settings.polygon_parts == "largest" else None
    return [
        []
        if mask is None
        else [
            ring.points_xy.round(2).tolist()
            for ring in polygons(
                mask,
                image_wh,
                min_island_px=settings.min_island_px,
                min_hole_px=settings.min_hole_px,
                tolerance_px=settings.polygon_tolerance_px,
            )[:most]
        ]
        for mask in masks
    ]
