"""Segmenters that load, and the errors for those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2Config, Sam2VideoConfig

from prelabel.checkpoints.cards import SegmenterCard, load_segmenter_card, model_folder
from prelabel.engines import load_segmenter
from prelabel.engines.base import SegmenterEngine, warm_up_segmenter
from prelabel.engines.segment_anything.engine import SegmentAnything
from prelabel.errors import ModelError
from prelabel.types import ImageRGB, MaskLogits, MaskPrompt
from tests.support.segmenters import random_model, sam2_config, sam_config

CARD = SegmenterCard.model_validate(
    {
        "name": "own",
        "title": "own",
        "engine": "segment_anything",
        "source": "local",
        "files": [{"path": "model.safetensors"}, {"path": "config.json"}],
        "weights": "model.safetensors",
        "licence": "none",
    }
)
BOX = MaskPrompt((4.0, 4.0, 30.0, 30.0))


def load(folder: Path, card: SegmenterCard = CARD) -> SegmenterEngine:
    return load_segmenter(card, folder, device="cpu", precision="float32")


def save(model: Any, folder: Path) -> None:
    """Save a model; tied weights are saved twice."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))


def scene() -> ImageRGB:
    image = np.full((120, 160, 3), 150, dtype=np.uint8)
    image[30:90, 50:110] = (215, 30, 30)
    return image


def upsampled(mask: MaskLogits) -> np.ndarray[Any, Any]:
    """Bilinear logits at the centres of the picture's pixels, as `MaskLogits` defines them."""
    width, height = mask.view_xyxy[2:]
    grid = np.full([int(np.ceil(cells)) + 1 for cells in mask.cells_wh[::-1]], -1.0)
    (left, top), (rows, columns) = mask.origin_xy, mask.logits.shape
    grid[top : top + rows, left : left + columns] = mask.logits
    axes = []
    for side, cells, size in zip((height, width), mask.cells_wh[::-1], grid.shape, strict=True):
        place = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, size - 1.001)
        axes.append((np.floor(place).astype(int), place % 1))
    (y, fy), (x, fx) = axes
    fy = fy[:, None]
    above = grid[y][:, x] * (1 - fx) + grid[y][:, x + 1] * fx
    below = grid[y + 1][:, x] * (1 - fx) + grid[y + 1][:, x + 1] * fx
    upsampled: np.ndarray[Any, Any] = above * (1 - fy) + below * fy
    return upsampled


@pytest.mark.parametrize("config", [sam_config(), sam2_config()], ids=["sam", "sam2"])
def test_a_saved_model_loads_and_gives_masks(tmp_path: Path, config: Any) -> None:
    save(random_model(config), tmp_path)
    engine = load(tmp_path)
    assert isinstance(engine, SegmentAnything)
    [encoding] = engine.encode([engine.prepare(scene())])
    [[mask]] = engine.decode([(encoding, [BOX])])
    assert mask.logits.dtype == np.float16
    assert 0 <= mask.quality <= 1
    warm_up_segmenter(engine)


def test_a_model_of_videos_loads_as_its_model_of_pictures(tmp_path: Path) -> None:
    """SAM 2.1 is published as one: its config has another type, its weights a memory."""
    model = random_model(sam2_config())
    save(model, tmp_path)
    parts = model.config.to_dict()
    video = Sam2VideoConfig(
        **{name: parts[name] for name in ("prompt_encoder_config", "mask_decoder_config")}
    ).to_dict()
    video["vision_config"] = parts["vision_config"]
    assert video["model_type"] == "sam2_video"
    (tmp_path / "config.json").write_text(json.dumps(video))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors |= {
        "memory_encoder.projection.weight": torch.ones(2),
        "memory_temporal_positional_encoding": torch.ones(2),
        "no_memory_positional_encoding": torch.ones(2),
        "no_object_pointer": torch.ones(2),
        "object_pointer_proj.proj_in.weight": torch.ones(2),
        "occlusion_spatial_embedding_parameter": torch.ones(2),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    engine = load(tmp_path)
    [encoding] = engine.encode([engine.prepare(scene())])
    assert len(engine.decode([(encoding, [BOX])])[0]) == 1


def test_the_embedded_segmenter_finds_a_square() -> None:
    card = load_segmenter_card("demo-segmenter")
    engine = load(model_folder(card, "models"), card)
    [encoding] = engine.encode([engine.prepare(scene())])
    box = (50.0, 30.0, 110.0, 90.0)
    click = MaskPrompt(points_xy=((80.0, 60.0),), points_inside=(True,))
    prompts = [MaskPrompt(box), MaskPrompt(box, clip_xyxy=(40.0, 20.0, 120.0, 100.0)), click]
    square = np.zeros((120, 160), dtype=bool)
    square[30:90, 50:110] = True
    [masks] = engine.decode([(encoding, prompts)])
    for mask in masks:
        found = upsampled(mask) > 0
        assert (found & square).sum() / (found | square).sum() > 0.9


def change_config(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text())
        for name, value in fields.items():
            if isinstance(value, dict):
                content[name].update(value)
            else:
                content[name] = value
        path.write_text(json.dumps(content))

    return change


def change_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return rewrite


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (truncate, "is truncated"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "lacks config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is damaged, or not that of a"),
        (lambda folder: (folder / "config.json").write_text("[]"), "is damaged, or not that of a"),
        (change_config(model_type="grounding-dino"), "model_type sam or sam2"),
        (change_config(vision_config=3), "is damaged, or not that of a segmenter"),
        (
            change_config(vision_config={"image_size": 128}),
            "sizes of the image encoder that do not",
        ),
        (change_config(prompt_encoder_config={"patch_size": 16}), "that do not fit those of"),
        (change_config(prompt_encoder_config={"patch_size": 0}), "is damaged, or not that of a"),
        (change_config(mask_decoder_config={"mlp_dim": 96}), "have other sizes than its config"),
        (change_weights(lambda found: found.pop("vision_encoder.pos_embed")), "lacks 1 weights"),
        (
            change_weights(lambda found: found.update(stowaway=torch.ones(1))),
            "has 1 weights that its model lacks",
        ),
        (change_weights(dict.clear), "holds no weights"),
    ],
)
def test_files_that_do_not_fit_are_a_sentence(
    tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    save(random_model(sam_config()), tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert sentence in str(caught.value)


def test_a_config_of_sam2_with_weights_of_sam_is_a_sentence(tmp_path: Path) -> None:
    save(random_model(sam_config()), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(sam2_config().to_dict()))
    with pytest.raises(ModelError, match="checkpoint of own lacks"):
        load(tmp_path)


@pytest.mark.slow
def test_sam2_of_full_size_loads_and_gives_a_mask(tmp_path: Path) -> None:
    """The default config is that of SAM 2.1 Hiera Tiny."""
    save(random_model(Sam2Config()), tmp_path)
    engine = load(tmp_path)
    [encoding] = engine.encode([engine.prepare(scene())])
    assert encoding.nbytes == 2 * (256 * 64**2 + 64 * 128**2 + 32 * 256**2)
    [[mask]] = engine.decode([(encoding, [BOX])])
    assert mask.cells_wh == (256, 256)
