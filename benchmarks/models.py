"""Full-size Grounding DINO with random weights, and groundingdino-py's own class for it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
import yaml

from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.engines.groundingdino.config import original_config_path

FULL_SIZE = "grounding-dino-swin-t"
PHRASES = ("frog", "horse", "sunflower")
CONFIG = "GroundingDINO_SwinT_OGC.py"


def library_model() -> torch.nn.Module:
    """Return groundingdino-py's own model with random weights.

    Only its BERT wrapper is replaced, because it does not work with transformers 5.
    """
    from groundingdino.models import build_model
    from groundingdino.util.slconfig import SLConfig

    with _transformers_5_support():
        args = SLConfig.fromfile(str(original_config_path(CONFIG, Path())))
        args.use_checkpoint = args.use_transformer_ckpt = False
        torch.manual_seed(0)
        model: torch.nn.Module = build_model(args).eval()
    # The box heads are initialised to zero, which would hide differences between implementations.
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@contextmanager
def _transformers_5_support():  # type: ignore[no-untyped-def]
    from groundingdino.models.GroundingDINO import groundingdino as library
    from groundingdino.util import get_tokenlizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    class BertWrapper(torch.nn.Module):
        def __init__(self, bert_model: BertModel) -> None:
            super().__init__()
            self.config = bert_model.config
            self.embeddings, self.encoder = bert_model.embeddings, bert_model.encoder
            self.pooler = bert_model.pooler
            # Not registered as a submodule: the state dict would hold the weights twice.
            object.__setattr__(self, "full_model", bert_model)

        def forward(self, attention_mask: torch.Tensor, **inputs: torch.Tensor) -> object:
            return self.full_model(attention_mask=attention_mask[:, None], **inputs)

    tokenizer = BertTokenizerFast(
        tokenizer_file=str(model_folder(load_card("demo"), "models") / "tokenizer.json")
    )
    tokenizer.model_max_length = 512
    replaced = {
        (get_tokenlizer, "get_tokenlizer"): lambda _name: tokenizer,
        (get_tokenlizer, "get_pretrained_language_model"): lambda _name: BertModel(BertConfig()),
        (library, "BertModelWarper"): BertWrapper,
    }
    with ExitStack() as stack:
        for (module, name), replacement in replaced.items():
            stack.enter_context(mock.patch.object(module, name, replacement))
        yield


def write_full_size(folder: Path, shortest: int, longest: int) -> Path:
    """Write weights and a card of Swin-T with random weights, and return the card's path.

    Speed does not depend on the weights. shortest, longest: limits of the image's edges, pixels.
    """
    weights = folder / "random.pth"
    if not weights.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"model": library_model().state_dict()}, weights)
    shipped = load_card(FULL_SIZE).model_dump(mode="json", exclude={"folder", "revision"})
    size = {"shortest_edge": shortest, "longest_edge": longest}
    card = shipped | {
        "name": "random",
        "source": "local",
        "files": [{"path": weights.name}],
        "weights": weights.name,
        "image_size": size,
    }
    path = folder / f"random-{shortest}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in card.items() if value}))
    return path
