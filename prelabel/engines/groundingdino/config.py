"""Sizes of a Grounding DINO, read from the config of either library without running code."""

from __future__ import annotations

import ast
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import BertConfig

from prelabel.errors import ModelError


@dataclass(frozen=True, slots=True)
class SwinShape:
    """Sizes of the backbone.

    Attributes:
        embed_dim: Channels of the first stage.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window: Side of an attention window in tokens.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: int


# From build_swin_transformer in groundingdino/models/GroundingDINO/backbone/swin_transformer.py.
_SWINS = {
    "swin_T_224_1k": SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_B_224_22k": SwinShape(128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
    "swin_B_384_22k": SwinShape(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_L_224_22k": SwinShape(192, (2, 2, 18, 2), (6, 12, 24, 48), 7),
    "swin_L_384_22k": SwinShape(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the whole model.

    `temperature` is that of the sine position embedding of pictures.
    """

    swin: SwinShape
    bert: BertConfig
    hidden_dim: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    ffn_dim: int
    num_queries: int
    levels: int
    encoder_points: int
    decoder_points: int
    temperature: float


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _OriginalConfig(_Config):
    """The keys of groundingdino's config files (Python assignments) that set sizes."""

    backbone: str
    hidden_dim: int
    nheads: int
    enc_layers: int
    dec_layers: int
    dim_feedforward: int
    num_queries: int
    num_feature_levels: int
    enc_n_points: int
    dec_n_points: int
    pe_temperatureH: float  # noqa: N815  # the key in the file


class _SwinConfig(_Config):
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int


class _PortConfig(_Config):
    """The keys of the transformers port's config.json that set sizes."""

    backbone_config: _SwinConfig
    text_config: dict[str, object]
    d_model: int
    encoder_attention_heads: int
    encoder_layers: int
    decoder_layers: int
    encoder_ffn_dim: int
    num_queries: int
    num_feature_levels: int
    encoder_n_points: int
    decoder_n_points: int
    positional_embedding_temperature: float = Field(default=20)  # the default of transformers


def read_original_config(path: Path, bert: BertConfig) -> Shape:
    """Read the sizes in a config file of groundingdino.

    Args:
        path: The config file; its code is not run.
        bert: Config of the text encoder.

    Raises:
        ModelError: The file is missing, lacks a key, or is not a config of this kind.
    """
    try:
        config = _OriginalConfig.model_validate(_assignments(path.read_text()))
        swin = _SWINS[config.backbone]
    except (OSError, SyntaxError, ValidationError, KeyError) as error:
        raise ModelError(
            f"{path.name} is no config of a Grounding DINO with a Swin backbone. "
            "Correct `config` in the model's card."
        ) from error
    return Shape(
        swin=swin,
        bert=bert,
        hidden_dim=config.hidden_dim,
        heads=config.nheads,
        encoder_layers=config.enc_layers,
        decoder_layers=config.dec_layers,
        ffn_dim=config.dim_feedforward,
        num_queries=config.num_queries,
        levels=config.num_feature_levels,
        encoder_points=config.enc_n_points,
        decoder_points=config.dec_n_points,
        temperature=config.pe_temperatureH,
    )


def read_port_config(path: Path) -> Shape:
    """Read the sizes in the port's config.json.

    Raises:
        ModelError: The file is missing, lacks a key, or is not a config of this kind.
    """
    try:
        config = _PortConfig.model_validate(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path.name} is no config of a Grounding DINO with a Swin backbone. Name the right "
            "file as `config` in the model's card."
        ) from error
    backbone = config.backbone_config
    return Shape(
        swin=SwinShape(
            backbone.embed_dim, backbone.depths, backbone.num_heads, backbone.window_size
        ),
        bert=BertConfig.from_dict(config.text_config),
        hidden_dim=config.d_model,
        heads=config.encoder_attention_heads,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        ffn_dim=config.encoder_ffn_dim,
        num_queries=config.num_queries,
        levels=config.num_feature_levels,
        encoder_points=config.encoder_n_points,
        decoder_points=config.decoder_n_points,
        temperature=config.positional_embedding_temperature,
    )


def read_bert_config(folder: Path) -> BertConfig:
    """Read the text encoder's config.json.

    Raises:
        ModelError: The file is missing or damaged.
    """
    try:
        return BertConfig.from_dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ModelError(
            "The text encoder's config.json is missing or damaged. Say `text_encoder: "
            "bert-base-uncased` in the model's card."
        ) from error


def original_config_path(name: str, folder: Path) -> Path:
    """Return the path of a config file: the checkpoint's own, else the library's.

    Raises:
        ModelError: The library is not installed.
    """
    own = folder / name
    if own.is_file():
        return own
    library = importlib.util.find_spec("groundingdino")
    if library is None or library.origin is None:
        raise ModelError("groundingdino-py is not installed. Install this project's requirements.")
    return Path(library.origin).parent / "config" / name


def _assignments(source: str) -> dict[str, object]:
    """Return names and literal values of the assignments in a config file."""
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and _is_literal(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True
