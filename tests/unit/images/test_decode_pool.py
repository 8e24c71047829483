"""Pictures that are decoded in other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prelabel.errors import ImageDecodeError
from prelabel.images import decode_pool
from prelabel.images.decode import DecodedImage, ScaleOf
from prelabel.images.decode_pool import DecodePool, decode_here

pytestmark = pytest.mark.slow

MAX_PIXELS = 10_000_000


def file_of(wh: tuple[int, int], kind: str = "JPEG", seed: int = 0, **options: object) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (wh[1], wh[0], 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of((301, 203), exif=exif)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(2)
    yield pool
    pool.close()


def whole(_: tuple[int, int]) -> int:
    return 1


def half(_: tuple[int, int]) -> int:
    return 2


def same(one: DecodedImage, other: DecodedImage) -> bool:
    return np.array_equal(one.pixels, other.pixels) and (
        (one.wh, one.scale, one.origin_xy) == (other.wh, other.scale, other.origin_xy)
    )


def pid_of(pool: DecodePool) -> int:
    """Return the process that the next picture goes to."""
    process = pool._free.queue[-1]._process
    assert process is not None
    return int(process.pid)


@pytest.mark.parametrize(
    "encoded",
    [
        file_of((400, 300)),
        file_of((33, 21), "PNG"),
        file_of((1, 1), "WEBP"),
        turned(6),
        turned(3),
        file_of((3000, 2000), quality=95),
    ],
    ids=["jpeg", "png", "webp", "turned 6", "turned 3", "large"],
)
@pytest.mark.parametrize("scale_of", [whole, half])
def test_the_result_is_that_of_this_process(
    pool: DecodePool, encoded: bytes, scale_of: ScaleOf
) -> None:
    found = pool(encoded, MAX_PIXELS, scale_of)
    assert same(found, decode_here(encoded, MAX_PIXELS, scale_of))
    assert not found.pixels.flags.writeable


def test_the_scale_is_chosen_by_the_upright_size(pool: DecodePool) -> None:
    asked: list[tuple[int, int]] = []

    def ask(wh: tuple[int, int]) -> int:
        asked.append(wh)
        return 1

    pool(turned(6), MAX_PIXELS, ask)
    assert asked == [(203, 301)]


@pytest.mark.parametrize(
    "encoded",
    [b"", b"no picture", b"<html>", file_of((400, 300))[:5000], file_of((4000, 3000))],
    ids=["empty", "text", "page", "cut off", "too large"],
)
def test_errors_are_those_of_this_process(pool: DecodePool, encoded: bytes) -> None:
    with pytest.raises(ImageDecodeError) as here:
        decode_here(encoded, MAX_PIXELS, whole)
    for _ in range(2):
        with pytest.raises(ImageDecodeError) as there:
            pool(encoded, MAX_PIXELS, whole)
        assert str(there.value) == str(here.value)


def test_results_stay_when_others_are_decoded(pool: DecodePool) -> None:
    files = [file_of((200, 100), seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda each: pool(each, MAX_PIXELS, whole), files))
    for file, image in zip(files, found, strict=True):
        assert same(image, decode_here(file, MAX_PIXELS, whole))


def test_files_of_pixels_are_closed_with_the_arrays(pool: DecodePool) -> None:
    encoded = file_of((100, 100))
    pool(encoded, MAX_PIXELS, whole)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        pool(encoded, MAX_PIXELS, whole)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_picture_that_ends_its_decoder_fails_alone(
    pool: DecodePool, caplog: pytest.LogCaptureFixture
) -> None:
    encoded = file_of((100, 100))
    pool(encoded, MAX_PIXELS, whole)
    ended = pid_of(pool)

    def crash(_: tuple[int, int]) -> int:
        os.kill(ended, signal.SIGSEGV)
        return 1

    with pytest.raises(ImageDecodeError, match="ends the decoder; save it anew"):
        pool(encoded, MAX_PIXELS, crash)
    assert "ends the decoder" in caplog.text
    assert same(pool(encoded, MAX_PIXELS, whole), decode_here(encoded, MAX_PIXELS, whole))
    assert pid_of(pool) != ended


def test_a_picture_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode_pool, "_MAX_DECODE_S", 1.0)
    pool = DecodePool(1)
    try:
        encoded = file_of((100, 100))
        pool(encoded, MAX_PIXELS, whole)
        stopped = pid_of(pool)

        def stop(_: tuple[int, int]) -> int:
            os.kill(stopped, signal.SIGSTOP)
            return 1

        with pytest.raises(ImageDecodeError, match="takes longer than 1 s"):
            pool(encoded, MAX_PIXELS, stop)
        assert not Path(f"/proc/{stopped}").exists()
        pool(encoded, MAX_PIXELS, whole)
    finally:
        pool.close()


def test_an_error_of_the_caller_leaves_no_answer_for_the_next_one(pool: DecodePool) -> None:
    def fail(_: tuple[int, int]) -> int:
        raise LookupError("no size")

    with pytest.raises(LookupError):
        pool(file_of((50, 60)), MAX_PIXELS, fail)
    assert pool(file_of((70, 80)), MAX_PIXELS, whole).wh == (70, 80)


def test_processes_start_when_they_are_needed_and_end_with_the_pool() -> None:
    pool = DecodePool(5)
    for _ in range(3):
        pool(file_of((50, 60)), MAX_PIXELS, whole)
    running = [each for each in pool._workers if each._process is not None]
    assert len(running) == 1
    ended = pid_of(pool)
    pool.close()
    assert not Path(f"/proc/{ended}").exists()


def test_a_process_ends_with_its_parent() -> None:
    script = """
import os
from prelabel.images.decode_pool import DecodePool
from tests.unit.images.test_decode_pool import file_of, whole
pool = DecodePool(1)
pool(file_of((50, 60)), 10_000, whole)
print(pool._workers[0]._process.pid, flush=True)
os._exit(1)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    worker = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 30
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.exists()
