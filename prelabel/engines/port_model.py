"""Loading of a transformers model of Grounding DINO from the layouts that it can represent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    PreTrainedModel,
)
from transformers.models.grounding_dino.modeling_grounding_dino import (
    SPECIAL_TOKENS as _SPECIAL_TOKENS,
)
from transformers.utils import logging

from prelabel.checkpoints.cards import ModelCard
from prelabel.engines.checkpoint_layouts import (
    Layout,
    Weights,
    has_separate_box_heads,
    has_separate_class_heads,
    layout_of,
)
from prelabel.engines.mmdetection import config_of, to_port
from prelabel.engines.pretrained import CONFIG_ERRORS, CONFIG_NAME, build_model
from prelabel.engines.weights import read_weights
from prelabel.errors import ModelError

SPECIAL_TOKENS: Final = tuple(_SPECIAL_TOKENS)

_Config = GroundingDinoConfig | MMGroundingDinoConfig
_CONFIGS: Final[dict[str, type[_Config]]] = {
    "grounding-dino": GroundingDinoConfig,
    "mm-grounding-dino": MMGroundingDinoConfig,
}


def load_port_model(card: ModelCard, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load the card's model on the CPU, in evaluation mode.

    Args:
        card: The model card.
        folder: Folder of the checkpoint's files.
        dtype: Format of the parameters.

    Raises:
        ModelError: The checkpoint has the layout of groundingdino, is damaged, or does not fit its
            config.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    weights = read_weights(folder / card.weights)
    config_path = folder / CONFIG_NAME
    layout = layout_of(weights)
    if layout is Layout.ORIGINAL:
        raise ModelError(
            f"{card.weights} has the weights' names of groundingdino, not of transformers. "
            f"Set `engine: groundingdino` in the card of {card.name}."
        )
    if layout is Layout.MMDETECTION:
        config = read_config(card.name, config_path) if config_path.is_file() else None
        return _build(card, config or config_of(weights), to_port(weights), dtype)
    return _build(card, read_config(card.name, config_path), weights, dtype)


def read_config(name: str, path: Path) -> _Config:
    """Read the config.json of a model.

    Args:
        name: Name of the model, for the message.
        path: Path of the config.json.

    Raises:
        ModelError: The file is missing, damaged, or not that of a Grounding DINO.
    """
    try:
        content = json.loads(path.read_text())
        config = _CONFIGS[content["model_type"]].from_dict(content)
    except FileNotFoundError as error:
        raise ModelError(
            f"The model {name} has no {CONFIG_NAME}. Put the file that was saved with its weights "
            "beside them."
        ) from error
    except CONFIG_ERRORS as error:
        raise ModelError(
            f"The {CONFIG_NAME} of {name} is damaged, or not that of a Grounding DINO "
            f"(model_type {' or '.join(_CONFIGS)}). Put the file that was saved with its weights "
            "beside them."
        ) from error
    return config


def _build(
    card: ModelCard, config: _Config, weights: Weights, dtype: torch.dtype
) -> PreTrainedModel:
    _set_separate_heads(config, weights)
    config.disable_custom_kernels = True
    is_mm = isinstance(config, MMGroundingDinoConfig)
    kind = MMGroundingDinoForObjectDetection if is_mm else GroundingDinoForObjectDetection
    return build_model(card.name, kind, config, weights, dtype)


def _set_separate_heads(config: _Config, weights: Weights) -> None:
    """Give each layer of the decoder heads of its own if the checkpoint has them.

    In transformers 5 this is an option, and its default is one head for all layers. The config.json
    of MM-Grounding-DINO and LLMDet was saved by transformers 4, which lacks the option. With the
    default, transformers silently ties all heads to the first one, and the boxes are wrong.
    """
    if has_separate_box_heads(weights):
        config.decoder_bbox_embed_share = False
    if has_separate_class_heads(weights):
        config.decoder_cls_embed_share = False
