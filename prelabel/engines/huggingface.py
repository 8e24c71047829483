"""The engine on transformers: Grounding DINO, MM-Grounding-DINO and LLMDet checkpoints."""

from __future__ import annotations

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

    def __init__(self, model: PreTrainedModel, placement: Placement) -> None:
        self.num_queries: int = model.config.num_queries
        head_width = model.config.d_model // model.config.decoder_attention_heads
        replace_port_attention(model, choose_sampler(placement, head_width))
        replace_modules(
            model,
            (GroundingDinoBiMultiHeadAttention, MMGroundingDinoBiMultiHeadAttention),
            PortBiAttention,
        )
        # After the attention layers, which read weights that a packed layer no longer has.
        if placement.allows_packed_linears:
            pack_linears(model)
        inner = model.get_submodule("model")
        bert = inner.get_submodule("text_backbone")
        inner.add_module("text_backbone", CachedTextEncoder(bert, PAD_ID))
        self._model = model
        guard_convolutions(model)
        heads = model.get_submodule("class_embed")
        for name, head in list(heads.named_children()):
            heads.add_module(name, _OutsideAutocast(head))

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token logits [B, Q, T or more] and boxes [B, Q, 4], cxcywh in 0..1."""
        output = self._model(
            pixel_values=batch.pixels,
            input_ids=batch.token_ids,
            attention_mask=batch.token_mask.long(),
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
    return TorchEngine(HuggingFaceNetwork(model, placement), tokenizer, card.image_size, placement)
