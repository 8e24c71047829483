"""Both engines give the same results, equal to their libraries', alone and in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, GroundingDinoForObjectDetection

from prelabel.checkpoints.cards import ModelCard, model_folder
from prelabel.detection.scoring import select_detections
from prelabel.engines.groundingdino.config import read_port_config
from prelabel.engines.torch_engine import TorchEngine
from prelabel.types import ImageRGB, RawDetections, Thresholds
from tests.support.engine_factory import EngineFactory

pytestmark = pytest.mark.slow

ENGINES = ("groundingdino", "huggingface")
PROMPTS = (("red circle", "blue square"), ("cat",), ("green star", "dog", "blue square", "sun"))


def largest_difference(a: RawDetections, b: RawDetections) -> float:
    pairs = (
        (a.boxes_xyxy_norm, b.boxes_xyxy_norm),
        (a.phrase_max, b.phrase_max),
        (a.phrase_mean, b.phrase_mean),
    )
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def mixed_batch(engine: TorchEngine, picture: ImageRGB) -> list[RawDetections]:
    """Every prompt in one batch, on three different pictures."""
    pictures = (picture, np.ascontiguousarray(picture[::-1]), np.ascontiguousarray(255 - picture))
    items = [
        engine.prepare(image, prompt)[0] for image, prompt in zip(pictures, PROMPTS, strict=True)
    ]
    return engine.detect(items)


@pytest.mark.parametrize("name", ENGINES)
def test_circle_and_square_are_found_where_they_are(
    demo_engine: EngineFactory, scene: ImageRGB, name: str
) -> None:
    engine = demo_engine(name, "float32")
    raw = engine.detect(engine.prepare(scene, ("green star", "blue square", "red circle")))
    found = select_detections(raw, Thresholds(box=0.3, text=0.25), (112, 112))
    by_phrase = dict(zip(found.phrase_index.tolist(), found.boxes_xyxy, strict=True))
    assert sorted(by_phrase) == [1, 2]
    assert by_phrase[1] == pytest.approx([64, 60, 100, 96], abs=4)
    assert by_phrase[2] == pytest.approx([8, 10, 44, 46], abs=4)


def test_engines_agree_alone(demo_engine: EngineFactory, scene: ImageRGB) -> None:
    ours, theirs = (demo_engine(name, "float64") for name in ENGINES)
    for prompt in PROMPTS:
        (a,) = ours.detect(ours.prepare(scene, prompt))
        (b,) = theirs.detect(theirs.prepare(scene, prompt))
        assert a.boxes_xyxy_norm.dtype == np.float64
        assert largest_difference(a, b) < 1e-5


def test_engines_agree_in_a_batch_of_different_captions(
    demo_engine: EngineFactory, scene: ImageRGB
) -> None:
    ours, theirs = (mixed_batch(demo_engine(name, "float64"), scene) for name in ENGINES)
    for a, b in zip(ours, theirs, strict=True):
        assert largest_difference(a, b) < 1e-5


@pytest.mark.parametrize("name", ENGINES)
def test_neighbours_captions_do_not_change_a_result(
    demo_engine: EngineFactory, scene: ImageRGB, name: str
) -> None:
    engine = demo_engine(name, "float64")
    (alone,) = engine.detect(engine.prepare(scene, PROMPTS[0]))
    assert largest_difference(mixed_batch(engine, scene)[0], alone) < 1e-9


@pytest.mark.parametrize("name", ENGINES)
def test_pictures_of_two_sizes_have_two_buckets_and_keep_their_results(
    demo_engine: EngineFactory, scene: ImageRGB, wide_scene: ImageRGB, name: str
) -> None:
    engine = demo_engine(name, "float64")
    square, wide = (engine.prepare(image, PROMPTS[0])[0] for image in (scene, wide_scene))
    assert square.bucket != wide.bucket
    beside = engine.prepare(wide_scene, PROMPTS[2])[0]
    (alone,) = engine.detect([wide])
    assert largest_difference(engine.detect([beside, wide])[1], alone) < 1e-9


def test_huggingface_engine_equals_processor_and_model_by_hand(
    demo_card: ModelCard, demo_engine: EngineFactory, scene: ImageRGB
) -> None:
    folder = model_folder(demo_card, "models")
    model = GroundingDinoForObjectDetection.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    text = "red circle . blue square ."
    inputs = processor(images=Image.fromarray(scene), text=text, return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    token_probs = output.logits[0].sigmoid().numpy()  # [CLS] red circle . blue square . [SEP]

    engine = demo_engine("huggingface", "float32")
    (raw,) = engine.detect(engine.prepare(scene, PROMPTS[0]))
    assert raw.phrase_max[:, 0] == pytest.approx(token_probs[:, 1:3].max(axis=1), abs=1e-4)
    assert raw.phrase_mean[:, 1] == pytest.approx(token_probs[:, 4:6].mean(axis=1), abs=1e-4)
    centre_xy = output.pred_boxes[0, :, :2].numpy()
    corners = raw.boxes_xyxy_norm.reshape(-1, 2, 2)
    assert corners.mean(axis=1) == pytest.approx(centre_xy, abs=1e-5)
    size_wh = output.pred_boxes[0, :, 2:].numpy()
    assert corners[:, 1] - corners[:, 0] == pytest.approx(size_wh, abs=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_three_hundred_labels_come_back_in_chunks_that_know_their_place(
    demo_engine: EngineFactory, scene: ImageRGB, name: str
) -> None:
    phrases = [f"thing {i}" for i in range(300)]
    phrases[250] = "red circle"
    engine = demo_engine(name, "float32")
    items = engine.prepare(scene, phrases)
    assert len(items) > 1
    assert max(len(item.caption.ids) for item in items) <= 256
    chunks = [raw for item in items for raw in engine.detect([item])]
    first = 0
    for chunk in chunks:
        assert chunk.first_phrase == first
        first += chunk.phrase_max.shape[1]
    assert first == 300
    found = select_detections(chunks, Thresholds(box=0.4, text=0.25), (112, 112))
    assert found.phrase_index[0] == 250
    assert found.boxes_xyxy[0] == pytest.approx([8, 10, 44, 46], abs=6)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("hw", [(1, 1), (1, 4000), (4000, 1), (3, 5)])
def test_tiny_and_thin_pictures_are_looked_at(
    demo_engine: EngineFactory, name: str, hw: tuple[int, int]
) -> None:
    engine = demo_engine(name, "float32")
    picture = np.full((*hw, 3), 200, dtype=np.uint8)
    (raw,) = engine.detect(engine.prepare(picture, ("red circle",)))
    assert raw.boxes_xyxy_norm.shape == (150, 4)
    assert np.isfinite(raw.boxes_xyxy_norm).all()


@pytest.mark.parametrize("name", ENGINES)
def test_bfloat16_finds_the_same_and_answers_in_float32(
    demo_engine: EngineFactory, scene: ImageRGB, name: str
) -> None:
    full, short = (demo_engine(name, precision) for precision in ("float32", "bfloat16"))
    (expected,) = full.detect(full.prepare(scene, PROMPTS[0]))
    (raw,) = short.detect(short.prepare(scene, PROMPTS[0]))
    assert raw.phrase_max.dtype == raw.boxes_xyxy_norm.dtype == np.float32
    assert raw.phrase_max.max(axis=0) == pytest.approx(expected.phrase_max.max(axis=0), abs=0.05)


@pytest.mark.parametrize("name", ENGINES)
def test_bfloat16_is_right_on_narrow_pictures(demo_engine: EngineFactory, name: str) -> None:
    """One or two columns on the coarsest level: torch's own convolution reads beyond them."""
    full, short = (demo_engine(name, precision) for precision in ("float32", "bfloat16"))
    picture = np.random.default_rng(0).integers(0, 255, (600, 120, 3), dtype=np.uint8)
    (item,) = full.prepare(picture, PROMPTS[0])
    assert item.pixels.shape[1] <= 64
    (expected,) = full.detect([item])
    answers = [short.detect([item])[0] for _ in range(10)]
    for raw in answers:
        assert np.array_equal(raw.phrase_max, answers[0].phrase_max)
        assert raw.phrase_max.max(axis=0) == pytest.approx(expected.phrase_max.max(axis=0), abs=0.1)


def test_port_config_gives_the_demos_shape(demo_card: ModelCard) -> None:
    shape = read_port_config(model_folder(demo_card, "models") / "config.json")
    assert (shape.swin.embed_dim, shape.num_queries, shape.bert.hidden_size) == (32, 150, 128)


@pytest.mark.parametrize("name", ENGINES)
def test_scores_are_not_rounded_to_bfloat16(
    demo_engine: EngineFactory, scene: ImageRGB, name: str
) -> None:
    engine = demo_engine(name, "bfloat16")
    (raw,) = engine.detect(engine.prepare(scene, PROMPTS[0]))
    logits = np.log(raw.phrase_max / (1 - raw.phrase_max)).ravel()
    rounded = torch.tensor(logits).to(torch.bfloat16).float().numpy()
    assert np.mean(np.isclose(logits, rounded, rtol=1e-5, atol=0)) < 0.2
