"""Segmenters against the plain forward pass of transformers, in float64."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SamConfig

from prelabel.engines.device import Placement
from prelabel.engines.kernels import linear
from prelabel.engines.kernels.library import kernels, linear_kernels_of
from prelabel.engines.kernels.linear import PackedLinear
from prelabel.engines.preprocess import normalised, to_pixels
from prelabel.engines.segment_anything import blockwise_attention, choice, engine
from prelabel.engines.segment_anything.blockwise_attention import BlockwiseAttention
from prelabel.engines.segment_anything.decoder import FoldedDecoder, ImageTokens, LibraryDecoder
from prelabel.engines.segment_anything.encoder import LibraryEncoder, WindowedEncoder
from prelabel.engines.segment_anything.engine import PictureEncoding, SegmentAnything
from prelabel.errors import DetectionError
from prelabel.types import ImageRGB, MaskLogits, MaskPrompt
from tests.support.segmenters import geometry_of, random_model, sam2_config, sam_config

EXACT = Placement(torch.device("cpu"), torch.float64, torch.float64)
CONFIGS = {
    "sam": sam_config(),
    "sam without relative positions": sam_config(rel_pos=False, window=4),
    "sam with one mask": sam_config(masks=1),
    "sam2 of stable masks": sam2_config(stability=0.0),
    "sam2 of unstable masks": sam2_config(stability=1.1),
    "sam2": sam2_config(stability=0.9),
}
BOX = (20.0, 10.0, 60.0, 50.0)
PROMPTS = {
    "box": MaskPrompt(BOX),
    "click": MaskPrompt(points_xy=((30.0, 20.0),), points_inside=(True,)),
    "negative click": MaskPrompt(points_xy=((70.5, 33.0),), points_inside=(False,)),
    "two clicks": MaskPrompt(points_xy=((30, 20), (80.25, 40)), points_inside=(True, False)),
    "three clicks": MaskPrompt(
        points_xy=((30, 20), (80, 40), (1, 1)), points_inside=(True, True, False)
    ),
    "box and click": MaskPrompt(BOX, points_xy=((30, 20),), points_inside=(True,)),
    "box and two clicks": MaskPrompt(
        BOX, points_xy=((30, 20), (50, 45)), points_inside=(True, False)
    ),
    "another box": MaskPrompt((1.5, 2.5, 99.0, 71.0)),
    "a third box": MaskPrompt((40.0, 30.0, 90.0, 70.0)),
}


def noise(height: int, width: int, seed: int = 0) -> ImageRGB:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


WIDE, TALL = noise(72, 100), noise(90, 40, seed=1)


def build(config: Any, placement: Placement = EXACT) -> SegmentAnything:
    model = torch.nn.Module.to(random_model(config), placement.weights)
    return SegmentAnything(model, geometry_of(config), placement)


@pytest.fixture(scope="module", params=list(CONFIGS))
def segmenter(request: pytest.FixtureRequest) -> SegmentAnything:
    return build(CONFIGS[request.param])


def encoded(segmenter: SegmentAnything, image: ImageRGB) -> PictureEncoding:
    [encoding] = segmenter.encode([segmenter.prepare(image)])
    return encoding


def plain_pixels(segmenter: SegmentAnything, image: ImageRGB) -> torch.Tensor:
    """The picture as the processors of transformers prepare it."""
    frame = segmenter._geometry.frame((image.shape[1], image.shape[0]))
    pixels = normalised(to_pixels(image, frame.input_wh[::-1])[None]).double()
    side = frame.geometry.input_px
    right, bottom = side - pixels.shape[3], side - pixels.shape[2]
    return torch.nn.functional.pad(pixels, (0, right, 0, bottom))


@torch.inference_mode()
def plain_mask(
    segmenter: SegmentAnything, image: ImageRGB, prompt: MaskPrompt
) -> tuple[torch.Tensor, float]:
    """Logits of all cells, and the quality, of the model's own forward pass."""
    config = segmenter._model.config
    scale = [
        side / original
        for side, original in zip(
            segmenter._geometry.frame((image.shape[1], image.shape[0])).input_wh,
            (image.shape[1], image.shape[0]),
            strict=True,
        )
    ]
    arguments: dict[str, torch.Tensor] = {}
    if prompt.points_xy:
        points = torch.tensor(prompt.points_xy, dtype=torch.float64) * torch.tensor(scale)
        arguments["input_points"] = points[None, None]
        arguments["input_labels"] = torch.tensor(prompt.points_inside).long()[None, None]
    if prompt.box_xyxy:
        box = torch.tensor(prompt.box_xyxy, dtype=torch.float64) * torch.tensor(scale * 2)
        arguments["input_boxes"] = box[None, None]
    ambiguous = prompt.box_xyxy is None and len(prompt.points_xy) == 1
    several = config.mask_decoder_config.num_multimask_outputs == 3
    output = segmenter._model(
        pixel_values=plain_pixels(segmenter, image),
        multimask_output=ambiguous and several,
        **arguments,
    )
    quality = output.iou_scores[0, 0]
    best = int(quality.argmax())
    return output.pred_masks[0, 0, best], float(quality[best])


def assert_is(mask: MaskLogits, logits: torch.Tensor, quality: float) -> None:
    """The crop holds the logits, and all cells of the picture beyond it are negative."""
    columns, rows = (int(np.ceil(cells)) for cells in mask.cells_wh)
    expected = logits.numpy().copy()
    (left, top), (height, width) = mask.origin_xy, mask.logits.shape
    window = expected[top : top + height, left : left + width]
    assert mask.logits == pytest.approx(window.astype(np.float16), abs=2e-3, rel=2e-3)
    window[...] = -1
    if mask.clip_xyxy is None:
        assert (expected[:rows, :columns] <= 0).all()
    assert mask.quality == pytest.approx(min(1, max(0, quality)), abs=1e-6)


@torch.inference_mode()
def decoded(
    segmenter: SegmentAnything, encoding: PictureEncoding, prompts: list[MaskPrompt]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of all cells [B, S, S] before they become float16, and qualities."""
    cells = segmenter._geometry.cells
    one = len(prompts[0].points_xy) == 1 and prompts[0].box_xyxy is None
    logits, quality = segmenter._decoder(
        encoding.image.to(segmenter._placement.weights),
        segmenter._embed(prompts, encoding.frame),
        [(0, 0, cells, cells)] * len(prompts),
        best_of_all=segmenter._gives_several and one,
    )
    return torch.stack(logits), quality


@pytest.mark.parametrize("image", [WIDE, TALL], ids=["wide", "tall"])
def test_an_encoding_is_the_librarys(segmenter: SegmentAnything, image: ImageRGB) -> None:
    with torch.inference_mode():
        planes = segmenter._model.get_image_embeddings(plain_pixels(segmenter, image))
    *fine, coarse = planes if isinstance(planes, list) else [planes]
    found = encoded(segmenter, image)
    no_mask = segmenter._model.prompt_encoder.no_mask_embed.weight.detach()
    tokens = coarse[0].flatten(1).T + no_mask
    assert float((found.image.tokens - tokens).abs().max()) < 1e-6
    library = segmenter._model.mask_decoder
    assert found.nbytes == 8 * (tokens.numel() + sum(each.numel() for each in fine))
    assert len(found.image.fine) == len(fine) == (2 if hasattr(library, "conv_s0") else 0)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_mask_is_the_librarys(segmenter: SegmentAnything, name: str) -> None:
    assert isinstance(segmenter._decoder, FoldedDecoder)
    logits, quality = plain_mask(segmenter, WIDE, PROMPTS[name])
    encoding = encoded(segmenter, WIDE)
    found, qualities = decoded(segmenter, encoding, [PROMPTS[name]])
    assert float((found[0] - logits).abs().max()) < 1e-6
    assert float(qualities[0]) == pytest.approx(quality, abs=1e-6)
    [[mask]] = segmenter.decode([(encoding, [PROMPTS[name]])])
    assert_is(mask, logits, quality)


def test_prompts_of_one_layout_share_a_pass_without_effect(segmenter: SegmentAnything) -> None:
    boxes = [PROMPTS[name] for name in ("box", "another box", "a third box")] * 2
    encoding = encoded(segmenter, WIDE)
    together, qualities = decoded(segmenter, encoding, boxes)
    for prompt, logits, quality in zip(boxes, together, qualities, strict=True):
        alone, alone_quality = decoded(segmenter, encoding, [prompt])
        assert float((alone[0] - logits).abs().max()) < 1e-6
        assert float(alone_quality[0]) == pytest.approx(float(quality), abs=1e-6)


def test_pictures_and_prompts_of_all_kinds_share_a_call(segmenter: SegmentAnything) -> None:
    images = [WIDE, TALL]
    encodings = segmenter.encode([segmenter.prepare(image) for image in images])
    prompts = list(PROMPTS.values())
    results = segmenter.decode(
        [(encoding, prompts) for encoding in encodings] + [(encodings[0], [])]
    )
    assert results.pop() == ()
    for image, masks in zip(images, results, strict=True):
        for prompt, mask in zip(prompts, masks, strict=True):
            assert_is(mask, *plain_mask(segmenter, image, prompt))


@pytest.mark.parametrize(
    "clip", [(0, 0, 100, 72), (12.5, 30, 33, 71.5), (90, 60, 300, 300), (40, 20, 41, 21)]
)
def test_a_clipped_mask_has_all_cells_that_pixels_inside_depend_on(
    segmenter: SegmentAnything, clip: tuple[float, float, float, float]
) -> None:
    prompt = MaskPrompt(BOX, clip_xyxy=clip)
    [[mask]] = segmenter.decode([(encoded(segmenter, WIDE), [prompt])])
    assert mask.clip_xyxy == clip
    assert_is(mask, *plain_mask(segmenter, WIDE, MaskPrompt(BOX)))
    height, width = WIDE.shape[:2]
    (left, top), cells = mask.origin_xy, segmenter._geometry.cells
    for axis, (side, first, size) in enumerate(
        ((width, left, mask.logits.shape[1]), (height, top, mask.logits.shape[0]))
    ):
        centres = np.arange(side) + 0.5
        centres = centres[(centres >= clip[axis]) & (centres <= clip[axis + 2])]
        place = centres * mask.cells_wh[axis] / side - 0.5
        # Margin of one cell, except at the border of the grid.
        assert first == max(0, np.floor(place.min()) - 1)
        assert first + size == min(cells, np.floor(place.max()) + 3)


@pytest.mark.parametrize("clip", [(-9.0, -9.0, -1.0, -1.0), (200.0, 0.0, 300.0, 72.0)])
def test_a_clip_beside_the_picture_gives_an_empty_mask(
    segmenter: SegmentAnything, clip: tuple[float, float, float, float]
) -> None:
    [[mask]] = segmenter.decode([(encoded(segmenter, WIDE), [MaskPrompt(BOX, clip_xyxy=clip)])])
    assert mask.logits.shape == (1, 1)
    assert mask.logits[0, 0] < 0


def test_cells_follow_the_proportions_of_the_picture() -> None:
    sam, sam2 = build(sam_config()), build(sam2_config())
    for image, covered in ((WIDE, (32, 23.0)), (TALL, (14.0, 32))):
        height, width = image.shape[:2]
        [[mask]] = sam.decode([(encoded(sam, image), [MaskPrompt((1.0, 1.0, 30.0, 30.0))])])
        assert mask.cells_wh == covered
        assert mask.view_xyxy == (0, 0, width, height)
        [[mask]] = sam2.decode([(encoded(sam2, image), [MaskPrompt((1.0, 1.0, 30.0, 30.0))])])
        assert mask.cells_wh == (32, 32)


def test_bfloat16_keeps_coordinates_exact() -> None:
    """A quarter of a pixel moves a mask; bfloat16 has steps of half a pixel at 100."""
    config = sam_config()
    half = build(config, Placement(torch.device("cpu"), torch.float32, torch.bfloat16))
    single = build(config, Placement(torch.device("cpu"), torch.float32, torch.float32))
    encoding = encoded(half, WIDE)
    assert encoding.image.tokens.dtype == torch.bfloat16
    for x in (99.0, 99.25, 99.5):
        prompt = MaskPrompt((50.25, 20.0, x, 60.0))
        found, _ = decoded(half, encoding, [prompt])
        expected, _ = decoded(single, encoding, [prompt])
        assert torch.equal(found, expected)
    difference = encoding.image.tokens - encoded(single, WIDE).image.tokens
    assert 0 < float(difference.abs().max()) < 0.3


def test_a_prompt_of_nothing_is_refused(segmenter: SegmentAnything) -> None:
    with pytest.raises(ValueError, match="neither a box nor a point"):
        segmenter.decode([(encoded(segmenter, WIDE), [MaskPrompt()])])


def test_numbers_that_are_not_finite_are_an_error() -> None:
    segmenter = build(sam_config())
    encoding = encoded(segmenter, WIDE)
    spoilt = ImageTokens(torch.full_like(encoding.image.tokens, torch.nan))
    with pytest.raises(DetectionError, match="NaN"):
        segmenter.decode([(PictureEncoding(spoilt, encoding.frame), [MaskPrompt(BOX)])])
    with torch.no_grad():
        segmenter._model.vision_encoder.pos_embed.fill_(torch.nan)
    with pytest.raises(DetectionError, match="float32"):
        segmenter.encode([segmenter.prepare(WIDE)])


@pytest.mark.parametrize("config", [sam_config(), sam2_config()], ids=["sam", "sam2"])
def test_a_decoder_that_differs_gives_way_to_the_librarys(
    config: SamConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, side = random_model(config), geometry_of(config).tokens

    class Changed(FoldedDecoder):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._learned = -self._learned

    class Unfit(FoldedDecoder):
        def __init__(self, model: Any, side: int) -> None:
            super().__init__(model.renamed, side)

    for decoder, sentence in ((Changed, "gives other masks"), (Unfit, "does not fit")):
        monkeypatch.setattr(choice, "FoldedDecoder", decoder)
        with caplog.at_level(logging.WARNING):
            assert isinstance(choice.choose_decoder(model, side), LibraryDecoder)
        assert sentence in caplog.text


def test_the_windowed_encoder_is_for_models_that_it_fits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoders = {name: build(config)._encoder for name, config in CONFIGS.items()}
    assert [name for name, each in encoders.items() if isinstance(each, WindowedEncoder)] == [
        "sam without relative positions"
    ]

    class Changed(WindowedEncoder):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._no_mask = -self._no_mask

    monkeypatch.setattr(choice, "WindowedEncoder", Changed)
    changed = build(CONFIGS["sam without relative positions"])
    assert isinstance(changed._encoder, LibraryEncoder)
    assert "image encoder gives other numbers" in caplog.text


def test_attention_over_the_whole_picture_is_blockwise_where_it_is_equal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def blockwise(segmenter: SegmentAnything) -> list[bool]:
        layers = segmenter._model.vision_encoder.layers
        return [isinstance(layer.attn, BlockwiseAttention) for layer in layers]

    assert blockwise(build(sam_config())) == [False, True, False]

    def without_biases(self: Any, query: Any, height: int, width: int) -> Any:
        return tuple(query.new_zeros(*query.shape[:2], side) for side in (height, width))

    monkeypatch.setattr(BlockwiseAttention, "_biases", without_biases)
    assert blockwise(build(sam_config())) == [False, False, False]
    assert "attention" in caplog.text


@pytest.mark.parametrize("name", list(CONFIGS))
def test_linear_layers_of_encoders_may_be_packed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels of AVX2 are left out where PyTorch has AVX-512, but they run there."""
    library = kernels()
    if library is None or not torch.cpu.get_capabilities().get("avx2", False):
        pytest.skip("there are no kernels for this processor")
    placement = Placement(torch.device("cpu"), torch.float32, torch.float32)
    monkeypatch.setattr(linear, "linear_kernels", lambda: None)
    plain = encoded(build(CONFIGS[name], placement), WIDE)
    packed_kernels = linear_kernels_of(library, "avx2")
    monkeypatch.setattr(linear, "linear_kernels", lambda: packed_kernels)
    segmenter = build(CONFIGS[name], placement)
    assert any(isinstance(each, PackedLinear) for each in segmenter._model.modules())
    packed = encoded(segmenter, WIDE)
    # Encodings are kept in bfloat16, so that a difference can be one of its steps.
    assert float((packed.image.tokens - plain.image.tokens).abs().max()) < 0.05


@pytest.mark.parametrize("block", [5, 64])
def test_blockwise_attention_is_the_librarys(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise_attention, "_BLOCK_ROWS", block)
    attention = random_model(sam_config()).double().vision_encoder.layers[1].attn
    tokens = torch.randn(2, 8, 8, 24, dtype=torch.float64)
    with torch.inference_mode():
        found, expected = BlockwiseAttention(attention)(tokens)[0], attention(tokens)[0]
    assert float((found - expected).abs().max()) < 1e-9


@pytest.mark.parametrize("config", [sam_config(), sam2_config()], ids=["sam", "sam2"])
def test_the_librarys_decoder_gives_the_same_masks(config: SamConfig) -> None:
    segmenter = build(config)
    encoding = encoded(segmenter, WIDE)
    for names in (["click"], ["box", "another box", "a third box"]):
        prompts = [PROMPTS[name] for name in names]
        found, quality = decoded(segmenter, encoding, prompts)
        folded = segmenter._decoder
        segmenter._decoder = LibraryDecoder(segmenter._model, segmenter._geometry.tokens)
        expected, expected_quality = decoded(segmenter, encoding, prompts)
        segmenter._decoder = folded
        assert float((found - expected).abs().max()) < 1e-6
        assert float((quality - expected_quality).abs().max()) < 1e-6


def test_more_prompts_than_a_chunk_keep_their_order(segmenter: SegmentAnything) -> None:
    boxes = [
        MaskPrompt((1.0 * i, 2.0 * i, 40.0 + i, 35.0 + i)) for i in range(engine._GPU_CHUNK * 3)
    ]
    encoding = encoded(segmenter, WIDE)
    [together] = segmenter.decode([(encoding, boxes)])
    for prompt, mask in zip(boxes, together, strict=True):
        [[alone]] = segmenter.decode([(encoding, [prompt])])
        assert alone.origin_xy == mask.origin_xy
        assert alone.logits == pytest.approx(mask.logits, abs=2e-3, rel=2e-3)
