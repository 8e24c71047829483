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
from prelabel.engines.text_cache import TextFeatures
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.engines.torch_engine import PAD_ID, Batch, TorchEngine


class _OutOfAutocast(torch.nn.Module):
    """The token logits in float32: in bfloat16 hundreds of scores would share a few values."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """`ContrastiveEmbedding.forward`, whose inputs are hidden states and a mask."""
        wide = {
            name: at_least_float32(value) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        with torch.autocast(next(iter(wide.values())).device.type, enabled=False):
            logits: torch.Tensor = self.inner(**wide)
        return logits


class PortAttention(DeformableAttention):
    """Deformable attention as transformers calls it."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes: torch.Tensor,
        position_embeddings: torch.Tensor | None = None,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        """What the states find, and no weights. See `DeformableAttention.attend`."""
        queries = hidden_states
        if position_embeddings is not None:
            queries = queries + position_embeddings
        return self.attend(queries, encoder_hidden_states, reference_points, spatial_shapes), None


class PortBiAttention(BiAttention):
    """Attention between picture and text as transformers calls it."""

    def __init__(self, theirs: GroundingDinoBiMultiHeadAttention) -> None:
        super().__init__(
            theirs.num_heads,
            image_query=theirs.vision_proj,
            image_value=theirs.values_vision_proj,
            image_out=theirs.out_vision_proj,
            text_key=theirs.text_proj,
            text_value=theirs.values_text_proj,
            text_out=theirs.out_text_proj,
        )

    def forward(
        self,
        vision_features: torch.Tensor,
        text_features: torch.Tensor,
        text_attention_mask: torch.Tensor | None = None,
        **_: object,
    ) -> tuple[tuple[torch.Tensor, None], tuple[torch.Tensor, None]]:
        """What each receives, and no weights. See `BiAttention.attend`."""
        image, text = self.attend(vision_features, text_features, text_attention_mask)
        return (image, None), (text, None)


def replace_port_attention(model: torch.nn.Module, sampler: Sampler) -> None:
    """Let all deformable attention of the model sample so; its weights stay the same."""
    replace_modules(
        model,
        (GroundingDinoMultiscaleDeformableAttention, MMGroundingDinoMultiscaleDeformableAttention),
        lambda theirs: PortAttention(theirs, theirs.n_heads, theirs.n_levels, sampler),
    )


class HuggingFaceNetwork:
    """A transformers model behind `detector.Network`."""

    def __init__(self, model: PreTrainedModel, placement: Placement) -> None:
        self.num_queries: int = model.config.num_queries
        head_width = model.config.d_model // model.config.decoder_attention_heads
        replace_port_attention(model, choose_sampler(placement, head_width))
        replace_modules(
            model,
            (GroundingDinoBiMultiHeadAttention, MMGroundingDinoBiMultiHeadAttention),
            PortBiAttention,
        )
        if placement.packs:
            pack_linears(model)
        text = model.get_submodule("model")
        text.add_module("text_backbone", TextFeatures(text.get_submodule("text_backbone"), PAD_ID))
        self._model = model
        guard_convolutions(model)
        heads = model.get_submodule("class_embed")
        for name, head in list(heads.named_children()):
            heads.add_module(name, _OutOfAutocast(head))

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `detector.Network`."""
        output = self._model(
            pixel_values=batch.pixels,
            input_ids=batch.token_ids,
            attention_mask=batch.token_mask.long(),
        )
        return output.logits, output.pred_boxes


def load(card: ModelCard, folder: Path, placement: Placement) -> TorchEngine:
    """Raises ModelError for a checkpoint that does not fit its config or its tokenizer."""
    tokenizer = CaptionTokenizer.from_folder(
        text_encoder_folder(card, folder), card.max_text_tokens
    )
    model = load_port_model(card, folder, placement.weights)
    tokenizer.require_fit(card.name, model.config.text_config.vocab_size)
    # The library has the ids of the tokens that part phrases in its code.
    tokenizer.require_boundaries(card.name, SPECIAL_TOKENS)
    torch.nn.Module.to(model, placement.device)  # transformers' own `to` is not typed
    return TorchEngine(HuggingFaceNetwork(model, placement), tokenizer, card.image_size, placement)
