"""From prompts on a picture to masks: encode a view once, decode its prompts, both in batches.

Encodings of pictures that an annotator works on are cached, so that a click costs the mask decoder
alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from prelabel.concurrency.background import BackgroundTasks
from prelabel.concurrency.fairness import gather_or_cancel
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.detection.batching import BatchGate
from prelabel.detection.pictures import Picture, PictureReader
from prelabel.detection.reduction import SeenSize, seen_sizes
from prelabel.detection.tiling import Tile
from prelabel.engines.base import Encoding, PreparedItem, SegmenterEngine
from prelabel.errors import PrelabelError
from prelabel.observability.timing import Observe, ignore_stage, timed
from prelabel.segmentation.views import ViewPrompt, ViewRule
from prelabel.settings import CacheSettings
from prelabel.types import MaskLogits, MaskPrompt

_PROMPTS_AT_ONCE = 32  # of a picture: the decoder's memory grows with each prompt
_DECODING = "decode"  # the decoder's one bucket: it takes prompts of any pictures

EncodeGate = BatchGate[PreparedItem, Encoding]
DecodeGate = BatchGate[tuple[Encoding, Sequence[MaskPrompt]], tuple[MaskLogits, ...]]


class PictureSegmenter:
    """Answers prompts with one segmenter. All methods must run in one event loop.

    Args:
        views: Chooses the part of the picture that the model sees for a prompt.
        max_batch_size: Most pictures of a batch.
        cache: Limits of the cache.
        engine: Prepares pictures; its encoder and its decoder run behind the gates.
        encoder: The gate in front of the image encoder.
        decoder: The gate in front of the mask decoder.
        reader: Its threads prepare pictures.
        observe: Called with the seconds of "encode" and "masks".

    Attributes:
        encodings: Cache of encodings by digest and view, for urgent pictures only.
    """

    def __init__(
        self,
        views: ViewRule,
        max_batch_size: int,
        cache: CacheSettings,
        engine: SegmenterEngine,
        encoder: EncodeGate,
        decoder: DecodeGate,
        reader: PictureReader,
        observe: Observe = ignore_stage,
    ) -> None:
        self._views = views
        self._engine = engine
        self._encoder = encoder
        self._decoder = decoder
        self._reader = reader
        self._observe = observe
        self._background = BackgroundTasks()
        # Of bulk pictures: one batch runs and one waits. More would only take memory.
        self._slots = asyncio.Semaphore(2 * max_batch_size)
        self.encodings: SingleFlightCache[Encoding] = SingleFlightCache(
            lambda encoding: encoding.nbytes, max_bytes=cache.encoding_bytes
        )

    async def segment(self, picture: Picture, prompts: Sequence[MaskPrompt]) -> list[MaskLogits]:
        """Return the mask of each prompt; prompts and masks are in pixels of the picture.

        Raises:
            DetectionError: The model failed on this picture.
        """
        by_view = self._views.by_view(prompts, picture.wh)
        chunks = [
            chosen[start : start + _PROMPTS_AT_ONCE]
            for chosen in by_view.values()
            for start in range(0, len(chosen), _PROMPTS_AT_ONCE)
        ]
        answers = await gather_or_cancel(self._segment_in_view(picture, chunk) for chunk in chunks)
        if picture.urgent and _whole(picture) not in by_view:
            self.encode_ahead(picture)
        masks: dict[int, MaskLogits] = {}
        for chunk, answer in zip(chunks, answers, strict=True):
            masks.update(zip((prompt.row for prompt in chunk), answer, strict=True))
        return [masks[row] for row in range(len(prompts))]

    def seen(self, image_wh: tuple[int, int]) -> Iterator[SeenSize]:
        """Return the size of each view of a picture, and the size at which the model sees it."""
        return seen_sizes(self._views.views(image_wh), self._engine.resized_hw)

    def encode_ahead(self, picture: Picture) -> None:
        """Encode a picture in the background, so that the first click finds its encoding."""

        async def encode() -> None:
            try:
                await self._encoding(picture, _whole(picture))
            except PrelabelError:
                return  # the click itself meets the error, and answers with it

        self._background.start(encode())

    async def _segment_in_view(
        self, picture: Picture, prompts: Sequence[ViewPrompt]
    ) -> list[MaskLogits]:
        """Return the masks of prompts of one view."""
        # Until the masks are there, because an encoding takes megabytes. An annotator never waits
        # for the pictures of a bulk request.
        async with nullcontext() if picture.urgent else self._slots:
            view = prompts[0].view
            encoding, part = await self._encoding(picture, view), picture.part(view)
            job = (encoding, [prompt.within(part) for prompt in prompts])
            with timed(self._observe, "masks"):
                masks = await self._decoder.submit(job, _DECODING, urgent=picture.urgent)
        return [prompt.in_picture(mask, part) for prompt, mask in zip(prompts, masks, strict=True)]

    async def _encoding(self, picture: Picture, view: Tile) -> Encoding:
        async def encode() -> Encoding:
            with timed(self._observe, "encode"):
                item = await self._reader.run(
                    picture.urgent, self._engine.prepare, picture.part(view).pixels
                )
                return await self._encoder.submit(item, item.bucket, urgent=picture.urgent)

        # A bulk request segments each picture once, so that caching it would only take memory.
        if not picture.urgent:
            return await encode()
        return await self.encodings.get((picture.digest, view), encode)


def _whole(picture: Picture) -> Tile:
    return Tile(0, 0, *picture.wh)
