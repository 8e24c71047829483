"""The place of a picture in the replica, from its bytes to its answer."""

from __future__ import annotations

import asyncio

import pytest

from prelabel.detection.pictures import PictureReader
from prelabel.errors import ImageDecodeError
from prelabel.images.decode import DecodedImage, ScaleOf
from prelabel.images.decode_pool import decode_here
from prelabel.settings import CacheSettings
from tests.support.counting_engine import encoded

MOST = 2


def test_few_bulk_pictures_are_decoded_before_their_turn_and_urgent_ones_at_once() -> None:
    decoded: list[bytes] = []

    def decode(file: bytes, max_pixels: int, scale_of: ScaleOf) -> DecodedImage:
        decoded.append(file)
        return decode_here(file, max_pixels, scale_of)

    async def run() -> None:
        reader = PictureReader(
            CacheSettings(), max_pixels=10**6, threads=4, max_bulk=MOST, decode=decode
        )
        turn = asyncio.Event()

        async def answer(file: bytes, urgent: bool) -> None:
            async with reader.room(urgent):
                await reader.read(file, urgent=urgent, scale_of=lambda _: 1)
                if not urgent:
                    await turn.wait()

        files = [encoded((10 + number, 10)) for number in range(6)]
        bulk = [asyncio.create_task(answer(file, urgent=False)) for file in files[:5]]
        while len(decoded) < MOST:
            await asyncio.sleep(0.01)
        await answer(files[5], urgent=True)
        assert set(decoded) == {*files[:MOST], files[5]}
        turn.set()
        await asyncio.gather(*bulk)
        assert len(decoded) == 6

    asyncio.run(run())


def test_a_picture_that_fails_or_is_given_up_makes_room() -> None:
    async def run() -> None:
        reader = PictureReader(CacheSettings(), max_pixels=10**6, threads=1, max_bulk=1)

        async def answer(file: bytes) -> None:
            async with reader.room(urgent=False):
                await reader.read(file, urgent=False, scale_of=lambda _: 1)

        with pytest.raises(ImageDecodeError):
            await answer(b"no picture")
        async with asyncio.timeout(30):
            given_up = asyncio.create_task(answer(encoded((10, 11))))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            await answer(encoded((10, 12)))

    asyncio.run(run())
