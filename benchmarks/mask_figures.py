"""Speed of masks: clicks, bulk requests with and without masks, and the run-length encoding."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from benchmarks.launchers import service
from benchmarks.load_generator import Client
from benchmarks.measurement import Figures, interleaved, seconds
from benchmarks.payloads import MASKS_CONFIG, click_body, picture, predict_body, unique_copy
from prelabel.masks.logits import mask_runs
from prelabel.masks.rle import encode_rle
from prelabel.types import MaskLogits

_TASKS = 200
_ROUNDS = 3
_CLICKS = 40
_MASKS, _LARGE_WH = 20, (4000, 3000)


def mask_figures() -> Figures:
    """Measure the embedded models through the service, and the encoding of masks alone."""
    encoded = picture()
    with service({}) as url, Client(url) as client:
        client.post(predict_body(*(unique_copy(encoded) for _ in range(8)), config=MASKS_CONFIG))
        seen = unique_copy(encoded)
        client.post(predict_body(seen, config=MASKS_CONFIG))
        clicks = iter(range(10**6))
        taken_s = interleaved(
            {
                "click": lambda: client.post(click_body(seen, (40 + next(clicks) % 10, 75))),
                "cached": lambda: client.post(predict_body(seen)),
            },
            _CLICKS,
            warm=True,
        )
        click_s, cached_s = (statistics.median(taken_s[name]) for name in ("click", "cached"))
        yield "masks_click_p50_ms", click_s * 1000
        yield "masks_click_over_overhead_p50_ms", (click_s - cached_s) * 1000

        def bulk(config: str | None) -> float:
            pictures = [unique_copy(encoded) for _ in range(_TASKS)]
            body = predict_body(*pictures, **({} if config is None else {"config": config}))
            return client.post(body)

        rates = interleaved(
            {"boxes": partial(bulk, None), "masks": partial(bulk, MASKS_CONFIG)}, _ROUNDS
        )
        shares = [
            boxes_s / masks_s
            for boxes_s, masks_s in zip(rates["boxes"], rates["masks"], strict=True)
        ]
        yield "masks_bulk_boxes_per_s", _TASKS / statistics.median(rates["boxes"])
        yield "masks_bulk_masks_per_s", _TASKS / statistics.median(rates["masks"])
        yield "masks_bulk_share", statistics.median(shares)
    masks = list(_blobs())
    yield "masks_rle_20_ms", min(seconds(partial(_encode, masks)) for _ in range(9)) * 1000


def _encode(masks: Sequence[MaskLogits]) -> None:
    """Encode masks of a picture of 12 megapixels, cleaned as by default."""
    for mask in masks:
        encode_rle(mask_runs(mask, _LARGE_WH, 16, 16), _LARGE_WH[0] * _LARGE_WH[1])


def _blobs() -> Iterator[MaskLogits]:
    for number in range(_MASKS):
        rng = np.random.default_rng(number)
        y, x = np.mgrid[0:60, 0:60] - 30.0
        angle = np.arctan2(y, x)
        radius = 22 + 4 * np.sin(3 * angle + rng.uniform(0, 6)) + rng.normal(0, 0.5, x.shape)
        logits = (radius - np.hypot(x, y)).astype(np.float16)
        left, top = int(rng.integers(0, 190)), int(rng.integers(0, 130))
        yield MaskLogits(logits, (left, top), (256, 192), (0, 0, *_LARGE_WH), None, 1.0)
