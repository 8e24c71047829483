"""The engine on transformers: Grounding DINO, MM-Grounding-DINO and LLMDet checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoBiMultiHeadAttention,
    GroundingDinoMultiscaleDeformableAttention,
)
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoBiMultiHeadAttention,
    MMGroundingDinoMultiscaleDeformableAttention,
)

from prelabel.checkpoints.cards import ModelCard, text_encoder_folder
from prelabel.engines.device import (
    Placement,
    at_least_float32,
    guard_convolutions,
    replace_modules,
)
from prelabel.engines.kernels.bi_attention import BiAttention
from prelabel.engines.kernels.deformable_attention import (
    DeformableAttention,
    Sampler,
    choose_sampler,
)
from prelabel.engines.kernels.linear import pack_linears
from prelabel.engines.port_model import SPECIAL_TOKENS, load_port_model
from prelabel.engines.text_cache import CachedTextEncoder
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.engines.torch_engine import PAD_ID, Batch, TorchEngine

logger = logging.getLogger(__name__)

# Of the picture with which the faster layers are compared with the library's. It has more tokens
# than a model has queries.
_TRIAL_HW = (256, 288)
_MAX_DIFFERENCE = 0.03  # of a logit in the mean; another order of summation moves it by .001


class _OutsideAutocast(torch.nn.Module):
    """A class head in float32: in bfloat16 hundreds of scores would share a few values."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Run `ContrastiveEmbedding.forward`, whose inputs are hidden states and a mask."""
        wide = {
            name: at_least_float32(value) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        with torch.autocast(next(iter(wide.values())).device.type, enabled=False):
            logits: torch.Tensor = self.inner(**wide)
        return logits


class PortAttention(DeformableAttention):
    """Deformable attention with transformers' call signature."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes: torch.Tensor,
        position_embeddings: torch.Tensor | None = None,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        """Return `DeformableAttention.attend` of the arguments, and None for attention weights."""
        queries = hidden_states
        if position_embeddings is not None:
            queries = queries + position_embeddings
        return self.attend(queries, encoder_hidden_states, reference_points, spatial_shapes), None


class PortBiAttention(BiAttention):
    """Attention between picture and text with transformers' call signature."""

    def __init__(self, layer: GroundingDinoBiMultiHeadAttention) -> None:
        super().__init__(
            layer.num_heads,
            image_query=layer.vision_proj,
            image_value=layer.values_vision_proj,
            image_out=layer.out_vision_proj,
            text_key=layer.text_proj,
            text_value=layer.values_text_proj,
            text_out=layer.out_text_proj,
        )

    def forward(
        self,
        vision_features: torch.Tensor,
        text_features: torch.Tensor,
        text_attention_mask: torch.Tensor | None = None,
        **_: object,
    ) -> tuple[tuple[torch.Tensor, None], tuple[torch.Tensor, None]]:
        """Return `BiAttention.attend` of the arguments, each with None for attention weights."""
        image, text = self.attend(vision_features, text_features, text_attention_mask)
        return (image, None), (text, None)


def replace_port_attention(model: torch.nn.Module, sampler: Sampler) -> None:
    """Replace the deformable attention layers of a model by layers with this sampler.

    The weights stay the same.
    """
    replace_modules(
        model,
        (GroundingDinoMultiscaleDeformableAttention, MMGroundingDinoMultiscaleDeformableAttention),
        lambda layer: PortAttention(layer, layer.n_heads, layer.n_levels, sampler),
    )


class HuggingFaceNetwork:
    """A transformers model behind `torch_engine.Network`, with the faster attention layers."""

    def __init__(
        self, model: PreTrainedModel, placement: Placement, *, faster: bool = True
    ) -> None:
        self.num_queries: int = model.config.num_queries
        self._model = model
        self._placement = placement
        if faster:
            self._use_faster_layers()
        inner = model.get_submodule("model")
        bert = inner.get_submodule("text_backbone")
        inner.add_module("text_backbone", CachedTextEncoder(bert, PAD_ID))
        guard_convolutions(model)
        heads = model.get_submodule("class_embed")
        for name, head in list(heads.named_children()):
            heads.add_module(name, _OutsideAutocast(head))

    def _use_faster_layers(self) -> None:
        model, placement = self._model, self._placement
        head_width = model.config.d_model // model.config.decoder_attention_heads
        replace_port_attention(model, choose_sampler(placement, head_width))
        for module in model.modules():
            if isinstance(module, PortAttention):
                module.merged()
        replace_modules(
            model,
            (GroundingDinoBiMultiHeadAttention, MMGroundingDinoBiMultiHeadAttention),
            PortBiAttention,
        )
        # After the attention layers, which read weights that a packed layer no longer has.
        if placement.allows_packed_linears:
            pack_linears(model)

    def __call__(self, batch: Batch, *, exact: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token logits [B, Q, T or more] and boxes [B, Q, 4], cxcywh in 0..1."""
        device = self._placement.device
        with self._placement.forward_context(exact=exact):
            output = self._model(
                pixel_values=batch.pixels,
                input_ids=batch.token_ids.to(device),
                attention_mask=batch.token_mask.long().to(device),
            )
        return output.logits, output.pred_boxes


def load(card: ModelCard, folder: Path, placement: Placement) -> TorchEngine:
    """Load a checkpoint of transformers or MMDetection as an engine.

    Raises:
        ModelError: The checkpoint is damaged, or does not fit its config or its tokenizer.
    """
    tokenizer = CaptionTokenizer.from_folder(
        text_encoder_folder(card, folder), card.max_text_tokens
    )
    model = load_port_model(card, folder, placement.weights)
    tokenizer.require_fit(card.name, model.config.text_config.vocab_size)
    # The ids of the boundary tokens are constants in the code of transformers.
    tokenizer.require_boundaries(card.name, SPECIAL_TOKENS)
    torch.nn.Module.to(model, placement.device)  # transformers' own `to` is not typed
    batch = _trial_batch(tokenizer, placement)
    expected = _best_logits(_run_library(model, batch))
    network = HuggingFaceNetwork(model, placement)
    with torch.inference_mode():
        found = _best_logits(network(batch, exact=True)[0])
    if not (found - expected).abs().mean() < _MAX_DIFFERENCE:  # true for NaN as well
        logger.warning(
            "With this version of transformers the faster layers compute something else than the "
            "library. The model runs without them. Install the versions of requirements/serve.txt."
        )
        model = load_port_model(card, folder, placement.weights)
        torch.nn.Module.to(model, placement.device)
        network = HuggingFaceNetwork(model, placement, faster=False)
    return TorchEngine(network, tokenizer, card.image_size, placement)


def _trial_batch(tokenizer: CaptionTokenizer, placement: Placement) -> Batch:
    [caption] = tokenizer(("object",))
    ids = torch.tensor(caption.ids)[None]
    pixels = torch.randn(1, 3, *_TRIAL_HW, generator=torch.Generator().manual_seed(0))
    return Batch(pixels.to(placement.device, placement.weights), ids, ids != PAD_ID)


def _run_library(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Return the library's logits [1, Q, T or more]."""
    device = batch.pixels.device
    with torch.inference_mode():
        output = model(
            pixel_values=batch.pixels,
            input_ids=batch.token_ids.to(device),
            attention_mask=batch.token_mask.long().to(device),
        )
    logits: torch.Tensor = output.logits
    return logits


def _best_logits(logits: torch.Tensor) -> torch.Tensor:
    """Return the best logit of each query, in descending order [Q]."""
    return logits[0].amax(-1).sort(descending=True).values
