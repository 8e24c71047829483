"""The engine on groundingdino-py: loads a checkpoint into the network and makes it fast."""

from __future__ import annotations

from pathlib import Path

from prelabel.checkpoints.cards import ModelCard, text_encoder_folder
from prelabel.engines.checkpoint_layouts import (
    Layout,
    Weights,
    has_separate_box_heads,
    layout_of,
    with_one_box_head,
)
from prelabel.engines.device import Placement, guard_convolutions
from prelabel.engines.groundingdino.attention import replace_attention
from prelabel.engines.groundingdino.config import (
    Shape,
    original_config_path,
    read_bert_config,
    read_original_config,
    read_port_config,
)
from prelabel.engines.groundingdino.network import GroundingDinoNetwork
from prelabel.engines.groundingdino.weight_names import from_port
from prelabel.engines.kernels.deformable_attention import choose_sampler
from prelabel.engines.kernels.linear import pack_linears
from prelabel.engines.text_cache import CachedTextEncoder
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.engines.torch_engine import PAD_ID, TorchEngine
from prelabel.engines.weights import read_weights, require_keys
from prelabel.errors import ModelError


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
    network = GroundingDinoNetwork(shape, tokenizer.boundary_ids, separate_box_heads=separate)
    _load_weights(network, card.name, weights)
    network.to(placement.device, placement.weights).eval()
    guard_convolutions(network)
    replace_attention(network, choose_sampler(placement, shape.hidden_dim // shape.heads))
    # After the attention layers, which read weights that a packed layer no longer has.
    if placement.allows_packed_linears:
        pack_linears(network)
    network.bert = CachedTextEncoder(network.bert, PAD_ID)
    return TorchEngine(network, tokenizer, card.image_size, placement)


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


def _load_weights(network: GroundingDinoNetwork, name: str, weights: Weights) -> None:
    unexpected: set[str] = set()
    if layout_of(weights) is Layout.PORT:
        if not has_separate_box_heads(weights):
            weights = with_one_box_head(weights)
        weights, unexpected = from_port(weights, list(network.state_dict()))
    try:
        report = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(
            f"The weights of {name} have other sizes than its config says. "
            "Check that they belong together."
        ) from error
    require_keys(
        name, missing=report.missing_keys, unexpected=[*report.unexpected_keys, *unexpected]
    )
