"""Encoded pictures -> decoded ones, in threads beside the one that runs the model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.images.decode import decode_image
from prelabel.observability.timing import Observe, ignore_stage, timed
from prelabel.settings import CacheSettings
from prelabel.types import ImageRGB

# Hashing up to this size in the event loop takes less time than the way to a thread and back.
_MAX_INLINE_DIGEST_BYTES = 256 * 1024
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        digest: SHA-256 of its encoded bytes.
        image: uint8 [H, W, 3], upright.
        urgent: True if an annotator waits for an answer about it.
    """

    digest: bytes
    image: ImageRGB
    urgent: bool

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]


class PictureReader:
    """Decodes and prepares pictures. All methods must run in one event loop.

    Args:
        cache: Limits of the cache.
        max_pixels: Most pixels of a picture.
        threads: Number of threads that decode and resize bulk pictures while the model runs. Urgent
            pictures have one thread of their own.
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
        observe: Observe = ignore_stage,
    ) -> None:
        self._max_pixels = max_pixels
        self._observe = observe
        self.decoded: SingleFlightCache[ImageRGB] = SingleFlightCache(
            lambda image: image.nbytes,
            max_bytes=cache.picture_bytes,
            max_age_s=cache.picture_s,
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._urgent_thread = ThreadPoolExecutor(1, thread_name_prefix="prepare-urgent")

    async def read(self, encoded: bytes, *, urgent: bool) -> Picture:
        """Decode a picture.

        Raises:
            ImageDecodeError: The bytes are no picture, or have too many pixels.
        """
        if len(encoded) <= _MAX_INLINE_DIGEST_BYTES:
            digest = _digest(encoded)
        else:
            digest = await self.run(urgent, _digest, encoded)

        async def decode() -> ImageRGB:
            with timed(self._observe, "decode"):
                return await self.run(urgent, self._decode, encoded)

        # A bulk request needs each picture once, so that caching it would only take memory.
        image = await (self.decoded.get(digest, decode) if urgent else decode())
        return Picture(digest, image, urgent)

    async def run(self, urgent: bool, work: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Run work in a thread for urgent or for bulk pictures."""
        threads = self._urgent_thread if urgent else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    def _decode(self, encoded: bytes) -> ImageRGB:
        return decode_image(encoded, max_pixels=self._max_pixels)


def _digest(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()
