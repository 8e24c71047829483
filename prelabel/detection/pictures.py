"""Encoded pictures -> decoded ones, in threads beside the one that runs the model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.detection.tiling import Tile
from prelabel.images.decode import DecodedImage, ScaleOf
from prelabel.images.decode_pool import Decode, decode_here
from prelabel.images.perceptual_hash import perceptual_hash
from prelabel.observability.timing import Observe, ignore_stage, timed
from prelabel.settings import CacheSettings
from prelabel.types import ImageRGB

# Hashing up to this size in the event loop takes less time than the way to a thread and back.
_MAX_INLINE_DIGEST_BYTES = 256 * 1024
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class PicturePart:
    """The pixels of a part of a picture, at full or at reduced size.

    Attributes:
        pixels: uint8 [h, w, 3].
        region: The part that they show, in pixels of the picture. At reduced size it can be larger
            than the one that was asked for, and reach beyond the picture, by less than one of the
            reduced pixels on each side.
        scale: Pixels of the picture for each of `pixels`, along a side.
    """

    pixels: ImageRGB
    region: Tile
    scale: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        digest: SHA-256 of its encoded bytes.
        image: Its pixels, upright.
        urgent: True if an annotator waits for an answer about it.
        looks_like: Perceptual hash of a picture that is not urgent; None for others.
    """

    digest: bytes
    image: DecodedImage
    urgent: bool
    looks_like: int | None = None

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height in pixels of the picture, at whatever size it was decoded."""
        return self.image.wh

    def part(self, view: Tile) -> PicturePart:
        """Return the pixels of a view, without copying them."""
        scale, (origin_x, origin_y) = self.image.scale, self.image.origin_xy
        left, top = (view.left - origin_x) // scale, (view.top - origin_y) // scale
        right, bottom = -((origin_x - view.right) // scale), -((origin_y - view.bottom) // scale)
        pixels = self.image.pixels[top:bottom, left:right]
        height, width = pixels.shape[:2]
        region = Tile(
            left * scale + origin_x,
            top * scale + origin_y,
            (left + width) * scale + origin_x,
            (top + height) * scale + origin_y,
        )
        return PicturePart(pixels, region, scale)


class PictureReader:
    """Decodes and prepares pictures. All methods must run in one event loop.

    Args:
        cache: Limits of the cache.
        max_pixels: Most pixels of a picture.
        threads: Number of threads that decode and resize bulk pictures while the model runs. Urgent
            pictures have one thread of their own.
        max_bulk: Most bulk pictures that are decoded, or wait for the model, at a time.
        decode: Decodes a picture; by default in the thread that calls it.
        observe: Called with the seconds of "decode".

    Attributes:
        decoded: Cache of decoded pictures by digest, for urgent ones only: an annotator often sends
            another query for the same picture.
    """

    def __init__(
        self,
        cache: CacheSettings,
        *,
        max_pixels: int,
        threads: int,
        max_bulk: int,
        decode: Decode = decode_here,
        observe: Observe = ignore_stage,
    ) -> None:
        self._max_pixels = max_pixels
        self._decode_picture = decode
        self._bulk = asyncio.Semaphore(max_bulk)
        self._observe = observe
        self.decoded: SingleFlightCache[DecodedImage] = SingleFlightCache(
            lambda image: image.pixels.nbytes,
            max_bytes=cache.picture_bytes,
            max_age_s=cache.picture_s,
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._urgent_thread = ThreadPoolExecutor(1, thread_name_prefix="prepare-urgent")

    @asynccontextmanager
    async def room(self, urgent: bool) -> AsyncIterator[None]:
        """Wait until a picture may be decoded, and keep its place until it is done with.

        An urgent picture does not wait. Without a limit, all bulk pictures of a replica would be
        decoded long before the model gets to them.
        """
        if urgent:
            yield
            return
        async with self._bulk:
            yield

    async def read(self, encoded: bytes, *, urgent: bool, scale_of: ScaleOf) -> Picture:
        """Decode a picture.

        Args:
            encoded: The file's bytes.
            urgent: True if an annotator waits for an answer about it.
            scale_of: By how much the sides of a picture of that width and height may be divided.
                The cache expects the same answer for each size.

        Raises:
            ImageDecodeError: The bytes are no picture, or have too many pixels.
        """
        if len(encoded) <= _MAX_INLINE_DIGEST_BYTES:
            digest = _digest(encoded)
        else:
            digest = await self.run(urgent, _digest, encoded)

        async def decode() -> DecodedImage:
            with timed(self._observe, "decode"):
                return await self.run(urgent, self._decode, encoded, scale_of)

        if urgent:
            return Picture(digest, await self.decoded.get(digest, decode), urgent)
        # A bulk request needs each picture once, so that caching it would only take memory.
        image = await decode()
        looks_like = await self.run(urgent, perceptual_hash, image.pixels)
        return Picture(digest, image, urgent, looks_like)

    async def run(self, urgent: bool, work: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Run work in a thread for urgent or for bulk pictures."""
        threads = self._urgent_thread if urgent else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    def _decode(self, encoded: bytes, scale_of: ScaleOf) -> DecodedImage:
        return self._decode_picture(encoded, self._max_pixels, scale_of)


def _digest(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()
