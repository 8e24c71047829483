"""From prompts on a picture to masks: encode a view once, decode its prompts, both in batches.

Encodings of pictures that an annotator works on are cached, so that a click costs the mask decoder
alone.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from prelabel.boxes import clip_xyxy
from prelabel.concurrency.background import BackgroundTasks
from prelabel.concurrency.fairness import gather_or_cancel
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.detection.batching import BatchGate
from prelabel.detection.pictures import Picture, PictureReader
from prelabel.detection.tiling import Tile, Tiling
from prelabel.engines.base import Encoding, PreparedItem, SegmenterEngine
from prelabel.errors import PrelabelError
from prelabel.observability.timing import Observe, ignore_stage, timed
from prelabel.settings import CacheSettings, DetectionSettings
from prelabel.types import MaskLogits, MaskPrompt

_PROMPTS_AT_ONCE = 32  # of a picture: the decoder's memory grows with each prompt
# A box must lie in a tile with this share of its size around it, which the model needs to see.
_TILE_MARGIN = 0.1
_DECODING = "decode"  # the decoder's one bucket: it takes prompts of any pictures

EncodeGate = BatchGate[PreparedItem, Encoding]
DecodeGate = BatchGate[tuple[Encoding, Sequence[MaskPrompt]], tuple[MaskLogits, ...]]


class PictureSegmenter:
    """Answers prompts with one segmenter. All methods must run in one event loop.

    Args:
        settings: Limits of tiles and batches.
        box_margin: How far a mask may reach beyond its box, by the box's width and height.
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
        settings: DetectionSettings,
        box_margin: float,
        cache: CacheSettings,
        engine: SegmenterEngine,
        encoder: EncodeGate,
        decoder: DecodeGate,
        reader: PictureReader,
        observe: Observe = ignore_stage,
    ) -> None:
        self._tiling = Tiling.of(settings)
        self._box_margin = box_margin
        self._engine = engine
        self._encoder = encoder
        self._decoder = decoder
        self._reader = reader
        self._observe = observe
        self._background = BackgroundTasks()
        # Of bulk pictures: one batch runs and one waits. More would only take memory.
        self._slots = asyncio.Semaphore(2 * settings.max_batch_size)
        self.encodings: SingleFlightCache[Encoding] = SingleFlightCache(
            lambda encoding: encoding.nbytes, max_bytes=cache.encoding_bytes
        )

    async def segment(self, picture: Picture, prompts: Sequence[MaskPrompt]) -> list[MaskLogits]:
        """Return the mask of each prompt; prompts and masks are in pixels of the picture.

        A box is segmented in the smallest view that holds it, so that a small object of a large
        picture gets a mask as fine as a large object's.

        Raises:
            DetectionError: The model failed on this picture.
        """
        views = self._tiling.views(picture.wh)
        by_view: defaultdict[Tile, list[int]] = defaultdict(list)
        within = [clipped(prompt, picture.wh, self._box_margin) for prompt in prompts]
        for row, prompt in enumerate(within):
            by_view[_view_of(prompt, views)].append(row)
        chunks = [
            (view, rows[start : start + _PROMPTS_AT_ONCE])
            for view, rows in by_view.items()
            for start in range(0, len(rows), _PROMPTS_AT_ONCE)
        ]
        answers = await gather_or_cancel(
            self._segment_in_view(picture, view, [within[row] for row in rows])
            for view, rows in chunks
        )
        masks: dict[int, MaskLogits] = {}
        for (_, rows), answer in zip(chunks, answers, strict=True):
            masks.update(zip(rows, answer, strict=True))
        return [masks[row] for row in range(len(prompts))]

    def encode_ahead(self, picture: Picture) -> None:
        """Encode a picture in the background, so that the first click finds its encoding."""

        async def encode() -> None:
            try:
                await self._encoding(picture, Tile(0, 0, *picture.wh))
            except PrelabelError:
                return  # the click itself meets the error, and answers with it

        self._background.start(encode())

    async def _segment_in_view(
        self, picture: Picture, view: Tile, prompts: Sequence[MaskPrompt]
    ) -> list[MaskLogits]:
        local = [_moved(prompt, -view.left, -view.top) for prompt in prompts]
        # Until the masks are there, because an encoding takes megabytes. An annotator never waits
        # for the pictures of a bulk request.
        async with nullcontext() if picture.urgent else self._slots:
            encoding = await self._encoding(picture, view)
            job = (encoding, local)
            with timed(self._observe, "masks"):
                masks = await self._decoder.submit(job, _DECODING, urgent=picture.urgent)
        return [
            replace(
                mask,
                view_xyxy=(view.left, view.top, view.right, view.bottom),
                clip_xyxy=prompt.clip_xyxy,
            )
            for mask, prompt in zip(masks, prompts, strict=True)
        ]

    async def _encoding(self, picture: Picture, view: Tile) -> Encoding:
        async def encode() -> Encoding:
            with timed(self._observe, "encode"):
                item = await self._reader.run(
                    picture.urgent, self._engine.prepare, view.of(picture.image)
                )
                return await self._encoder.submit(item, item.bucket, urgent=picture.urgent)

        # A bulk request segments each picture once, so that caching it would only take memory.
        if not picture.urgent:
            return await encode()
        return await self.encodings.get((picture.digest, view), encode)


def clipped(prompt: MaskPrompt, image_wh: tuple[int, int], box_margin: float) -> MaskPrompt:
    """Return a prompt inside the picture, whose mask ends a margin around its box.

    Args:
        prompt: The prompt, in pixels of the picture.
        image_wh: Width and height of the picture.
        box_margin: The margin as a share of the box's width and height.
    """
    if prompt.box_xyxy is None:
        return prompt
    box = clip_xyxy(np.array([prompt.box_xyxy], np.float64), image_wh)[0]
    margin = box_margin * np.tile(box[2:] - box[:2], 2) * (-1, -1, 1, 1)
    clip = clip_xyxy((box + margin)[None], image_wh)[0]
    return replace(prompt, box_xyxy=tuple(box.tolist()), clip_xyxy=tuple(clip.tolist()))


def _view_of(prompt: MaskPrompt, views: Sequence[Tile]) -> Tile:
    """Return the smallest view that holds a box and a margin around it; else the whole picture.

    A click says nothing about the object's size, so that it belongs to the whole picture.
    """
    if prompt.box_xyxy is None:
        return views[0]
    left, top, right, bottom = prompt.box_xyxy
    image_w, image_h = views[0].wh
    grow_x, grow_y = _TILE_MARGIN * (right - left), _TILE_MARGIN * (bottom - top)
    left, right = max(0, left - grow_x), min(image_w, right + grow_x)
    top, bottom = max(0, top - grow_y), min(image_h, bottom + grow_y)
    holding = [
        view
        for view in views
        if view.left <= left and view.top <= top and view.right >= right and view.bottom >= bottom
    ]
    return min(holding, key=lambda view: view.wh[0] * view.wh[1])


def _moved(prompt: MaskPrompt, dx: int, dy: int) -> MaskPrompt:
    """Return a prompt in pixels of another origin."""
    box, clip = (
        None if each is None else (each[0] + dx, each[1] + dy, each[2] + dx, each[3] + dy)
        for each in (prompt.box_xyxy, prompt.clip_xyxy)
    )
    points = tuple((x + dx, y + dy) for x, y in prompt.points_xy)
    return MaskPrompt(box, points, prompt.points_inside, clip)
