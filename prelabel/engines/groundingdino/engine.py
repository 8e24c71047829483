"""The engine on groundingdino-py: loads a checkpoint into the network and makes it fast."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from prelabel.checkpoints.cards import ModelCard, text_encoder_folder
from prelabel.engines.checkpoint_layouts import (
    Layout,
    Weights,
    has_separate_box_heads,
    layout_of,
    with_one_box_head,
)
from prelabel.engines.device import Placement
from prelabel.engines.groundingdino.config import (
    Shape,
    original_config_path,
    read_bert_config,
    read_original_config,
    read_port_config,
)
from prelabel.engines.groundingdino.network import GroundingDinoNetwork, OriginalModules
from prelabel.engines.groundingdino.weight_names import from_port
from prelabel.engines.kernels.deformable_attention import choose_sampler
from prelabel.engines.kernels.residual_norm import choose_residual_norm
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.engines.torch_engine import TorchEngine, collate
from prelabel.engines.weights import read_weights, require_keys
from prelabel.errors import ModelError

logger = logging.getLogger(__name__)

_TRIAL_HW = (480, 640)  # of the picture with which number formats are compared


def load(card: ModelCard, folder: Path, placement: Placement) -> TorchEngine:
    """Load a checkpoint of groundingdino, or of the transformers port, as an engine.

    Raises:
        ModelError: The checkpoint is damaged, or does not fit its config or its tokenizer.
    """
    text_folder = text_encoder_folder(card, folder)
    tokenizer = CaptionTokenizer.from_folder(text_folder, card.max_text_tokens)
    weights = read_weights(folder / card.weights)
    _check_layout(card, weights)
    shape = _read_shape(card, folder, text_folder)
    tokenizer.require_fit(card.name, shape.bert.vocab_size)
    separate = has_separate_box_heads(weights)
    modules = OriginalModules(shape, separate_box_heads=separate)
    _load_weights(modules, card.name, weights)
    sampler = choose_sampler(placement, shape.hidden_dim // shape.heads)
    add_and_norm = choose_residual_norm(placement)
    network = GroundingDinoNetwork(
        modules, tokenizer.boundary_ids, placement, sampler, add_and_norm
    )
    engine = TorchEngine(network, tokenizer, card.image_size, placement)
    if placement.is_reduced:
        _check_products(engine, network, placement)
    return engine


def _check_products(
    engine: TorchEngine, network: GroundingDinoNetwork, placement: Placement
) -> None:
    """Let the network compute in full precision if the short format changes what it sees."""
    image = np.random.default_rng(0).integers(0, 256, (*_TRIAL_HW, 3), dtype=np.uint8)
    batch = collate(engine.prepare(image, ("object",)), placement)
    with torch.inference_mode():
        is_same = network.has_same_features(batch)
    if not is_same:
        logger.warning(
            "In %s the model computes something else than in %s, and runs in the latter.",
            placement.products,
            placement.weights,
        )
        network.use_exact()
        engine.runs_on = str(placement.exact)


def _read_shape(card: ModelCard, folder: Path, text_folder: Path) -> Shape:
    if card.config is None:
        return read_port_config(folder / "config.json")
    path = original_config_path(card.config, folder)
    return read_original_config(path, read_bert_config(text_folder))


def _check_layout(card: ModelCard, weights: Weights) -> None:
    """Raise ModelError for a checkpoint that belongs to the other engine."""
    if layout_of(weights) is Layout.MMDETECTION:
        raise ModelError(
            f"{card.weights} is a checkpoint of MMDetection. Set `engine: huggingface` in the card "
            f"of {card.name}, and leave its `config` out."
        )


def _load_weights(modules: OriginalModules, name: str, weights: Weights) -> None:
    unexpected: set[str] = set()
    if layout_of(weights) is Layout.PORT:
        if not has_separate_box_heads(weights):
            weights = with_one_box_head(weights)
        weights, unexpected = from_port(weights, list(modules.state_dict()))
    try:
        report = modules.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(
            f"The weights of {name} have other sizes than its config says. "
            "Check that they belong together."
        ) from error
    require_keys(
        name, missing=report.missing_keys, unexpected=[*report.unexpected_keys, *unexpected]
    )
