from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor
from transformers.image_transforms import get_size_with_aspect_ratio

from prelabel.checkpoints.cards import ImageSize, ModelCard, model_folder
from prelabel.engines.preprocess import MIN_SIDE, image_tokens, normalised, resized_hw, to_pixels

USUAL = ImageSize(shortest_edge=800, longest_edge=1333)


@pytest.mark.parametrize(
    "hw", [(480, 640), (640, 480), (1080, 1920), (4000, 3000), (800, 800), (300, 900), (799, 1333)]
)
def test_size_rule_is_the_libraries(hw: tuple[int, int]) -> None:
    assert resized_hw(hw, USUAL, 900) == get_size_with_aspect_ratio(hw, 800, 1333)


@pytest.mark.parametrize("hw", [(1, 1), (1, 4000), (4000, 1), (2, 9000), (30, 31), (1, 40)])
@pytest.mark.parametrize("size", [USUAL, ImageSize(shortest_edge=112, longest_edge=224)])
def test_every_picture_has_a_token_per_query(hw: tuple[int, int], size: ImageSize) -> None:
    queries = 900 if size is USUAL else 50
    height, width = resized_hw(hw, size, queries)
    assert min(height, width) >= MIN_SIDE
    assert max(height, width) <= size.longest_edge
    assert image_tokens((height, width)) >= queries


def test_too_few_tokens_are_made_up_for_by_size() -> None:
    small = ImageSize(shortest_edge=32, longest_edge=64)
    assert image_tokens(resized_hw((500, 500), small, 900)) >= 900


def test_pixels_are_normalised_as_the_processor_does(demo_card: ModelCard) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(model_folder(demo_card, "models"))  # type: ignore[no-untyped-call]
    expected = processor(Image.fromarray(picture), return_tensors="pt", do_resize=False)
    pixels = normalised(to_pixels(picture, (112, 112))[None])
    assert pixels[0].numpy() == pytest.approx(expected.pixel_values[0].numpy(), abs=1e-5)


def test_read_only_picture_is_not_written_to() -> None:
    picture = np.zeros((50, 60, 3), dtype=np.uint8)
    picture.setflags(write=False)
    assert to_pixels(picture, (50, 60)).shape == (50, 60, 3)
