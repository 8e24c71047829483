"""Loading of a SAM or SAM 2 model of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PreTrainedModel, Sam2Config, Sam2Model, SamConfig, SamModel
from transformers.utils import logging

from prelabel.checkpoints.cards import SegmenterCard
from prelabel.engines.pretrained import CONFIG_ERRORS, CONFIG_NAME, build_model
from prelabel.engines.segment_anything.frames import Geometry
from prelabel.engines.weights import read_weights
from prelabel.errors import ModelError

_Config = SamConfig | Sam2Config
# SAM 2 is published as a model of videos, whose first part is the model of pictures.
_CONFIGS: Final[dict[str, type[_Config]]] = {
    "sam": SamConfig,
    "sam2": Sam2Config,
    "sam2_video": Sam2Config,
}
_PARTS: Final = ("vision_config", "prompt_encoder_config", "mask_decoder_config")


def load_model(
    card: SegmenterCard, folder: Path, dtype: torch.dtype
) -> tuple[PreTrainedModel, Geometry]:
    """Load the card's model on the CPU, in evaluation mode, and its sizes.

    Args:
        card: The card.
        folder: Folder of the checkpoint's files.
        dtype: Format of the parameters.

    Raises:
        ModelError: The checkpoint is damaged, is not one of SAM or SAM 2, or does not fit its
            config.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config, geometry = read_config(card.name, folder / CONFIG_NAME)
    weights = read_weights(folder / card.weights)
    kind = SamModel if isinstance(config, SamConfig) else Sam2Model
    return build_model(card.name, kind, config, weights, dtype), geometry


def read_config(name: str, path: Path) -> tuple[_Config, Geometry]:
    """Read the config.json of a segmenter, and the sizes in it.

    Args:
        name: Name of the model, for messages.
        path: Path of the config.json.

    Raises:
        ModelError: The file is missing, damaged, not that of SAM or SAM 2, or contradicts itself.
    """
    try:
        content = json.loads(path.read_text())
        kind = _CONFIGS[content["model_type"]]
        config = kind.from_dict({part: _without_type(content[part]) for part in _PARTS})
        geometry = _geometry_of(config)
    except FileNotFoundError as error:
        raise ModelError(
            f"The segmenter {name} has no {CONFIG_NAME}. Put the file that was saved with its "
            "weights beside them."
        ) from error
    except (*CONFIG_ERRORS, ZeroDivisionError) as error:
        raise ModelError(
            f"The {CONFIG_NAME} of {name} is damaged, or not that of a segmenter "
            f"(model_type {' or '.join(_CONFIGS)}). Put the file that was saved with its weights "
            "beside them."
        ) from error
    if geometry is None:
        raise ModelError(
            f"The {CONFIG_NAME} of {name} has sizes of the image encoder that do not fit those of "
            "the prompt encoder. Put the file that was saved with its weights beside them."
        )
    return config, geometry


def _without_type(part: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a part without the name that it has in a model of videos."""
    return {key: value for key, value in part.items() if key != "model_type"}


def _geometry_of(config: Any) -> Geometry | None:
    """Return the sizes of a model; None if its parts do not fit each other."""
    prompts = config.prompt_encoder_config
    keeps_proportions = config.model_type == "sam"
    input_px, tokens = prompts.image_size, prompts.image_size // prompts.patch_size
    if keeps_proportions:
        vision = config.vision_config
        fits = (
            vision.image_size == input_px
            and vision.image_size // vision.patch_size == tokens
            and prompts.image_embedding_size == tokens
        )
    else:
        sides = (4 * tokens, 2 * tokens, tokens)
        fits = [tuple(each) for each in config.vision_config.backbone_feature_sizes] == [
            (side, side) for side in sides
        ]
    return Geometry(input_px, tokens, keeps_proportions) if fits else None
