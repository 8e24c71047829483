"""Boxes, masks and clicks on real pictures with the embedded models."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from prelabel.checkpoints.cards import load_segmenter_card, model_folder
from prelabel.detection.batching import BatchGate
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import PictureReader
from prelabel.detection.suppression import Suppression
from prelabel.detection.tiling import Tiling
from prelabel.engines import load_segmenter
from prelabel.engines.base import Encoding, PreparedItem, SegmenterEngine
from prelabel.errors import ImageDecodeError, ModelError
from prelabel.masks.logits import mask_runs
from prelabel.masks.runs import mask_of_runs
from prelabel.segmentation.grounded import GroundedSegmenter
from prelabel.segmentation.segmenter import PictureSegmenter
from prelabel.segmentation.views import ViewRule
from prelabel.settings import AppSettings
from prelabel.types import (
    DetectionQuery,
    Detections,
    ImageRGB,
    LookPlan,
    MaskLogits,
    MaskPrompt,
    Masks,
    MaskTarget,
    SegmentationQuery,
    Target,
    Thresholds,
)
from tests.support.counting_engine import CountingEngine

W, H = 320, 240
DISC = (60, 50, 160, 150)  # xyxy of a red disc
SQUARE = (200, 120, 280, 200)  # of a blue square
BRUSH = Target("box", "image", "cat", 0.0, masks=(MaskTarget("brush", "mask", "cat", 0.5),))


class CountedSegmenter:
    """The embedded segmenter, which counts its work."""

    def __init__(self, engine: SegmenterEngine) -> None:
        self.engine = engine
        self.encoded = 0
        self.prompts: list[MaskPrompt] = []

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return self.engine.resized_hw(image_hw)

    def prepare(self, image: ImageRGB) -> PreparedItem:
        return self.engine.prepare(image)

    def encode(self, items: Sequence[PreparedItem]) -> list[Encoding]:
        self.encoded += len(items)
        return self.engine.encode(items)

    def decode(
        self, jobs: Sequence[tuple[Encoding, Sequence[MaskPrompt]]]
    ) -> list[tuple[MaskLogits, ...]]:
        self.prompts += [prompt for _, prompts in jobs for prompt in prompts]
        return self.engine.decode(jobs)


@pytest.fixture(scope="module")
def embedded() -> SegmenterEngine:
    card = load_segmenter_card("demo-segmenter")
    return load_segmenter(card, model_folder(card, "models"), device="cpu", precision="float32")


@pytest.fixture
def engine(embedded: SegmenterEngine) -> CountedSegmenter:
    return CountedSegmenter(embedded)


def picture(size: tuple[int, int] = (W, H), scale: int = 1) -> bytes:
    image = Image.new("RGB", size, (190, 180, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse(tuple(scale * edge for edge in DISC), fill=(215, 40, 40))
    draw.rectangle(tuple(scale * edge for edge in SQUARE), fill=(40, 60, 200))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def run(
    engine: CountedSegmenter,
    ask: Callable[[GroundedSegmenter], Awaitable[Any]],
    **settings: Any,
) -> Any:
    values = AppSettings(**settings)

    async def answer() -> Any:
        reader = PictureReader(values.cache, max_pixels=20_000_000, threads=2, max_bulk=16)
        boxes = CountingEngine()
        gate: Any = BatchGate(boxes.detect, max_batch_size=4)
        segmenter = PictureSegmenter(
            ViewRule(Tiling.of(values.detection), True, values.masks.box_margin),
            4,
            values.cache,
            engine,
            BatchGate(engine.encode, max_batch_size=4),
            BatchGate(engine.decode, max_batch_size=4),
            reader,
        )
        return await ask(
            GroundedSegmenter(
                reader,
                PictureDetector(values.detection, values.cache, boxes, gate, reader),
                segmenter,
                Suppression.of(values.detection),
                values.masks.max_masks,
            )
        )

    return asyncio.run(answer())


def pct(box: tuple[int, int, int, int], wh: tuple[int, int] = (W, H)) -> Any:
    return tuple(edge * 100 / side for edge, side in zip(box, wh * 2, strict=True))


def clicked(*points: tuple[float, float], inside: tuple[bool, ...] = ()) -> MaskPrompt:
    at = tuple((x * 100 / W, y * 100 / H) for x, y in points)
    return MaskPrompt(None, at, inside or (True,) * len(points))


def segment(image: bytes, *prompts: MaskPrompt, urgent: bool = True) -> SegmentationQuery:
    return SegmentationQuery(image, prompts, urgent)


def pixels(found: Detections, row: int = 0) -> Masks:
    assert found.masks is not None
    mask = found.masks[row]
    assert mask is not None
    return mask_of_runs(mask_runs(mask, found.image_wh, 16, 16), found.image_wh)


def iou(mask: Masks, truth: Masks) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def disc(scale: int = 1) -> Masks:
    y, x = np.mgrid[0 : H * scale, 0 : W * scale]
    return np.asarray(np.hypot(x - 110 * scale, y - 100 * scale) <= 50 * scale)


def test_a_box_and_a_click_give_the_mask_of_the_object(engine: CountedSegmenter) -> None:
    query = segment(picture(), MaskPrompt(pct(DISC)), clicked((110, 100)))
    found = run(engine, lambda pictures: pictures.segment(query))
    assert iou(pixels(found, 0), disc()) > 0.9
    assert iou(pixels(found, 1), disc()) > 0.8
    assert found.scores.tolist() == [mask.quality for mask in found.masks]


def test_a_click_after_a_box_uses_its_encoding(engine: CountedSegmenter) -> None:
    async def ask(pictures: GroundedSegmenter) -> None:
        await pictures.segment(segment(picture(), MaskPrompt(pct(DISC))))
        await pictures.segment(segment(picture(), clicked((110, 100))))
        await pictures.segment(segment(picture(), clicked((110, 100), (240, 160))))

    run(engine, ask)
    assert engine.encoded == 1
    assert len(engine.prompts) == 3


def test_bulk_pictures_are_not_kept(engine: CountedSegmenter) -> None:
    async def ask(pictures: GroundedSegmenter) -> None:
        query = segment(picture(), MaskPrompt(pct(DISC)), urgent=False)
        await pictures.segment(query)
        await pictures.segment(query)

    run(engine, ask)
    assert engine.encoded == 2


def test_a_mask_does_not_depend_on_the_others(engine: CountedSegmenter) -> None:
    prompts = [MaskPrompt(pct(DISC)), MaskPrompt(pct(SQUARE)), clicked((240, 160)), clicked((5, 5))]

    async def ask(pictures: GroundedSegmenter) -> tuple[list[Detections], Detections]:
        alone = [await pictures.segment(segment(picture(), prompt)) for prompt in prompts]
        return alone, await pictures.segment(segment(picture(), *prompts))  # type: ignore[return-value]

    alone, together = run(engine, ask)
    for row, found in enumerate(alone):
        assert (pixels(found) == pixels(together, row)).all()


def test_many_prompts_are_decoded_in_chunks_and_keep_their_order(engine: CountedSegmenter) -> None:
    prompts = [MaskPrompt(pct(DISC if i % 2 else SQUARE)) for i in range(70)]
    found = run(engine, lambda pictures: pictures.segment(segment(picture(), *prompts)))
    assert len(found.masks) == 70
    assert iou(pixels(found, 1), disc()) > 0.9
    assert iou(pixels(found, 69), disc()) > 0.9
    assert not (pixels(found, 68) & disc()).any()


def test_masks_end_a_margin_around_their_box(engine: CountedSegmenter) -> None:
    half = (60, 50, 110, 150)
    query = segment(picture(), MaskPrompt(pct(half)))
    found = run(engine, lambda pictures: pictures.segment(query), masks={"box_margin": 0.1})
    columns = np.flatnonzero(pixels(found).any(axis=0))
    assert columns.max() < 110 + 0.1 * 50


def test_a_small_object_is_segmented_in_its_tile(engine: CountedSegmenter) -> None:
    scale = 6
    image = picture((W * scale, H * scale), scale)
    query = segment(image, MaskPrompt(pct(DISC)))
    found = run(engine, lambda pictures: pictures.segment(query), detection={"tile_size": 1_100})
    [mask] = found.masks
    assert mask.view_xyxy != (0, 0, W * scale, H * scale)
    assert iou(pixels(found), disc(scale)) > 0.9
    clicks = run(
        engine,
        lambda pictures: pictures.segment(segment(image, clicked((110, 100)))),
        detection={"tile_size": 1_100},
    )
    assert clicks.masks[0].view_xyxy == (0, 0, W * scale, H * scale)


def test_the_click_after_a_box_of_a_wide_picture_finds_the_whole_picture_encoded(
    engine: CountedSegmenter,
) -> None:
    wide = picture((2 * W, H))

    async def ask(pictures: GroundedSegmenter) -> list[Detections]:
        boxed = await pictures.segment(segment(wide, MaskPrompt(pct(DISC, (2 * W, H)))))
        await asyncio.sleep(0.2)
        assert engine.encoded == 2
        at = (SQUARE[0] + 40) * 100 / (2 * W), (SQUARE[1] + 40) * 100 / H
        click = MaskPrompt(points_xy=(at,), points_inside=(True,))
        return [boxed, await pictures.segment(segment(wide, click))]  # type: ignore[list-item]

    boxed, clicked_on = run(engine, ask)
    assert engine.encoded == 2
    assert boxed.masks[0].view_xyxy == (0, 0, H, H)
    assert clicked_on.masks[0].view_xyxy == (0, 0, 2 * W, H)
    assert iou(pixels(boxed), np.pad(disc(), ((0, 0), (0, W)))) > 0.9


def detect(look: LookPlan | None, urgent: bool = True) -> DetectionQuery:
    return DetectionQuery(picture(), ("cat",), Thresholds(0.0, 0.0), urgent, look)


def look_at(*targets: Target) -> LookPlan:
    return LookPlan("", None, ("cat",), targets, Thresholds(0.0, 0.0))


def test_only_kept_boxes_are_segmented_and_only_those_with_a_score(
    engine: CountedSegmenter,
) -> None:
    found = run(engine, lambda pictures: pictures.detect(detect(look_at(BRUSH))))
    wanted = [score >= 0.5 for score in found.scores]
    assert [mask is not None for mask in found.masks] == wanted
    assert True in wanted
    assert False in wanted
    assert len(engine.prompts) == sum(wanted)


def test_the_limit_of_masks_leaves_the_best(engine: CountedSegmenter) -> None:
    look = look_at(replace(BRUSH, masks=(MaskTarget("brush", "mask", "cat", 0.0),)))
    found = run(engine, lambda p: p.detect(detect(look)), masks={"max_masks": 1})
    assert [mask is not None for mask in found.masks] == [True] + [False] * (len(found.scores) - 1)


def test_without_masks_in_the_plan_nothing_is_encoded(engine: CountedSegmenter) -> None:
    found = run(engine, lambda pictures: pictures.detect(detect(None)))
    assert found.masks is None
    assert engine.encoded == 0


def test_a_picture_without_boxes_is_encoded_for_the_click_that_follows(
    engine: CountedSegmenter,
) -> None:
    nothing = look_at(replace(BRUSH, min_score=1.0))

    async def ask(pictures: GroundedSegmenter) -> None:
        await pictures.detect(detect(nothing))
        await asyncio.sleep(0.2)
        assert engine.encoded == 1
        await pictures.segment(segment(picture(), clicked((110, 100))))

    run(engine, ask)
    assert engine.encoded == 1


def test_errors_are_values(engine: CountedSegmenter) -> None:
    async def ask(pictures: GroundedSegmenter) -> list[Any]:
        bad = await pictures.segment(segment(b"no picture", clicked((1, 1))))
        pictures.segmenter = None
        return [bad, await pictures.segment(segment(picture(), clicked((1, 1))))]

    bad, missing = run(engine, ask)
    assert isinstance(bad, ImageDecodeError)
    assert isinstance(missing, ModelError)
