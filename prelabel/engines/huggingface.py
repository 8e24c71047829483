"""The engine on transformers: Grounding DINO, MM-Grounding-DINO and LLMDet checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForZeroShotObjectDetection, PreTrainedModel
from transformers.utils import logging

from prelabel.cards import ModelCard, text_encoder_folder
from prelabel.engines.device import Placement, at_least_float32, guard_convolutions
from prelabel.engines.text import CaptionTokenizer
from prelabel.engines.torch_engine import Batch, TorchEngine
from prelabel.engines.weights import require_keys
from prelabel.errors import ModelError


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


class HuggingFaceNetwork:
    """A transformers model behind `detector.Network`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.num_queries: int = model.config.num_queries
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
    """Raises ModelError for a checkpoint that does not fit its config."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = _load_model(card, folder, placement.weights)
    torch.nn.Module.to(model, placement.device)  # transformers' own `to` is not typed
    return TorchEngine(
        HuggingFaceNetwork(model),
        CaptionTokenizer.from_folder(text_encoder_folder(card, folder), card.max_text_tokens),
        card.image_size,
        placement,
    )


def _load_model(card: ModelCard, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    model: PreTrainedModel
    try:
        model, report = AutoModelForZeroShotObjectDetection.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            disable_custom_kernels=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The checkpoint of {card.name} cannot be read. Install it anew, and check that its "
            "config.json is that of a Grounding DINO."
        ) from error
    require_keys(card.name, missing=report["missing_keys"], unexpected=report["unexpected_keys"])
    return model
