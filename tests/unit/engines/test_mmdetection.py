"""Checkpoints of MMDetection answer as the port does with the same weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.swin.modeling_swin import SwinPatchMerging

from prelabel.engines.mmdetection import config_of, to_port
from prelabel.errors import ModelError
from prelabel.types import ImageRGB
from tests.support.tiny_models import (
    BASE,
    LARGE,
    SEPARATE,
    TINY,
    answer,
    card_of,
    load,
    random_model,
    saved_weights,
    to_mmdetection,
)

pytestmark = pytest.mark.slow

OF_TRAINING = {
    "dn_query_generator.label_embedding.weight": torch.zeros(3, 64),
    "lmm.model.layers.0.weight": torch.zeros(2),
    "connector.0.weight": torch.zeros(2),
    "region_connector.0.weight": torch.zeros(2),
    "image_seperate.weight": torch.zeros(2),
    "ref_point_head.layers.0.weight": torch.zeros(2),
    "language_model.language_backbone.body.model.embeddings.position_ids": torch.arange(512)[None],
}


class HistoryBuffer:
    """MMEngine keeps its log of losses in such."""

    def __init__(self) -> None:
        self._log_history = np.zeros(2)
        self._max_length = np.int64(1000000)


def save_as_mmengine(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """With the log and the settings that MMEngine's runner saves beside the weights."""
    module = ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    names = ("mmengine", "mmengine.logging", module.__name__)
    sys.modules.update(dict.fromkeys(names, module))
    try:
        torch.save(
            {
                "meta": {
                    "cfg": "model = dict()",
                    "epoch": 12,
                    "dataset_meta": {"CLASSES": ("cat",)},
                },
                "state_dict": weights,
                "message_hub": {"log_scalars": {"train/loss": HistoryBuffer()}},
                "optimizer": {"state": {}, "param_groups": []},
            },
            path,
        )
    finally:
        for name in names:
            del sys.modules[name]


@pytest.mark.parametrize("structure", [TINY, BASE, LARGE], ids=["tiny", "base", "large"])
def test_checkpoint_of_mmdetection_answers_as_the_port_does(
    tmp_path: Path, scene: ImageRGB, structure: dict[str, Any]
) -> None:
    """Without a config.json: the shapes say all."""
    model = random_model(structure, **SEPARATE)
    theirs, port = tmp_path / "mmdetection", tmp_path / "port"
    theirs.mkdir()
    model.save_pretrained(port)
    save_as_mmengine(theirs / "own.pth", to_mmdetection(model) | OF_TRAINING)
    expected = answer(load(card_of(port)), scene)
    found = answer(load(card_of(theirs)), scene)
    np.testing.assert_allclose(found.phrase_max, expected.phrase_max, atol=1e-12)
    np.testing.assert_allclose(found.boxes_xyxy_norm, expected.boxes_xyxy_norm, atol=1e-12)


def test_grounding_dino_of_mmdetection_has_class_heads_without_weights(
    tmp_path: Path, scene: ImageRGB
) -> None:
    model = random_model(TINY, mm=False, decoder_bbox_embed_share=False)
    theirs, port = tmp_path / "mmdetection", tmp_path / "port"
    theirs.mkdir()
    model.save_pretrained(port)
    save_as_mmengine(theirs / "own.pth", to_mmdetection(model))
    expected = answer(load(card_of(port)), scene)
    found = answer(load(card_of(theirs)), scene)
    np.testing.assert_allclose(found.phrase_max, expected.phrase_max, atol=1e-12)
    np.testing.assert_allclose(found.boxes_xyxy_norm, expected.boxes_xyxy_norm, atol=1e-12)


@pytest.mark.parametrize("structure", [TINY, BASE, LARGE], ids=["tiny", "base", "large"])
def test_config_is_read_off_the_shapes(structure: dict[str, Any]) -> None:
    model = random_model(structure)
    found, expected = config_of(to_mmdetection(model)), model.config
    for name in (
        *("model_type", "d_model", "num_queries", "num_feature_levels", "encoder_layers"),
        *("decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "encoder_n_points"),
        *("decoder_n_points", "encoder_attention_heads", "positional_embedding_temperature"),
    ):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.backbone_config.to_diff_dict() == expected.backbone_config.to_diff_dict()  # type: ignore[union-attr]
    assert found.text_config.to_diff_dict() == expected.text_config.to_diff_dict()  # type: ignore[union-attr]


def test_every_name_and_value_arrives() -> None:
    model = random_model(LARGE, **SEPARATE)
    expected = saved_weights(model)
    found = to_port(to_mmdetection(model))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_patches_are_merged_in_the_order_of_unfold() -> None:
    """MMDetection's PatchMerging is nn.Unfold, a norm and a linear layer."""
    torch.manual_seed(0)
    pixels = torch.randn(1, 6, 8, 8)
    norm, reduction = nn.LayerNorm(24), nn.Linear(24, 12, bias=False)
    with torch.no_grad():
        norm.weight.normal_(), norm.bias.normal_()
        patches = nn.Unfold(kernel_size=2, stride=2)(pixels).transpose(1, 2)
        expected = reduction(norm(patches))
        prefix = "backbone.stages.0.downsample"
        theirs = {
            f"{prefix}.norm.weight": norm.weight,
            f"{prefix}.norm.bias": norm.bias,
            f"{prefix}.reduction.weight": reduction.weight,
        }
        merging = SwinPatchMerging(dim=6)
        merging.load_state_dict(
            {name.split("downsample.")[1]: value for name, value in to_port(theirs).items()}
        )
        found = merging(pixels.permute(0, 2, 3, 1).flatten(1, 2), (8, 8))
    torch.testing.assert_close(found, expected)


def test_engine_groundingdino_says_where_it_belongs(tmp_path: Path) -> None:
    torch.save({"state_dict": to_mmdetection(random_model(TINY))}, tmp_path / "own.pth")
    card = card_of(tmp_path, engine="groundingdino", config="GroundingDINO_SwinT_OGC.py")
    with pytest.raises(ModelError, match=r"of MMDetection\. Set `engine: huggingface`"):
        load(card)


def test_part_of_a_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    weights = to_mmdetection(random_model(TINY))
    del weights["query_embedding.weight"]
    torch.save({"state_dict": weights}, tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"MMDetection, but lacks query_embedding\.weight"):
        load(card_of(tmp_path))
