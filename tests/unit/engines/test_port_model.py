"""Checkpoints of transformers in every structure and file format, against the library itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from prelabel.checkpoints.cards import CARDS_FOLDER, TEXT_ENCODERS_FOLDER, ModelCard
from prelabel.engines.device import resolve_placement
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.engines.torch_engine import Batch, TorchEngine
from prelabel.errors import ModelError
from prelabel.types import ImageRGB, RawDetections
from tests.support.tiny_models import (
    BASE,
    LARGE,
    PHRASES,
    SEPARATE,
    TINY,
    answer,
    card_of,
    load,
    random_model,
)

pytestmark = pytest.mark.slow

BERT = TEXT_ENCODERS_FOLDER / "bert-base-uncased"
# MM-Grounding-DINO and LLMDet have a head for each layer of the decoder; IDEA's share one.
MODELS: dict[str, tuple[dict[str, Any], bool, dict[str, bool]]] = {
    "mm-grounding-dino-tiny, llmdet-tiny": (TINY, True, SEPARATE),
    "mm-grounding-dino-base, llmdet-base": (BASE, True, SEPARATE),
    "mm-grounding-dino-large, llmdet-large": (LARGE, True, SEPARATE),
    "grounding-dino-tiny": (TINY, False, {}),
    "grounding-dino-base": (BASE, False, {}),
    "grounding-dino, fine-tuned apart": (TINY, False, {"decoder_bbox_embed_share": False}),
}


class Library:
    """The model as it was built, behind the engine's interface; the parts are not exchanged."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.num_queries = model.config.num_queries
        self.model = model.double()

    def __call__(self, batch: Batch, *, exact: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(
            pixel_values=batch.pixels,
            input_ids=batch.token_ids,
            attention_mask=batch.token_mask.long(),
        )
        return found.logits, found.pred_boxes


def library_answer(model: PreTrainedModel, card: ModelCard, image: ImageRGB) -> RawDetections:
    tokenizer = CaptionTokenizer.from_folder(BERT, card.max_text_tokens)
    placement = resolve_placement("cpu", "float64")
    return answer(TorchEngine(Library(model), tokenizer, card.image_size, placement), image)


def forget_sharing(folder: Path) -> None:
    """As transformers 4 saved: without the options, and every tensor that is shared once."""
    config = json.loads((folder / "config.json").read_text())
    kept = {key: value for key, value in config.items() if not key.endswith("_share")}
    (folder / "config.json").write_text(json.dumps(kept))


def assert_same(found: RawDetections, expected: RawDetections) -> None:
    np.testing.assert_allclose(found.phrase_max, expected.phrase_max, atol=1e-9)
    np.testing.assert_allclose(found.boxes_xyxy_norm, expected.boxes_xyxy_norm, atol=1e-9)


@pytest.mark.parametrize("kept", ["bbox_embed", "model.decoder.bbox_embed"])
@pytest.mark.parametrize("name", MODELS)
def test_every_structure_answers_as_the_library(
    tmp_path: Path, scene: ImageRGB, name: str, kept: str
) -> None:
    structure, mm, share = MODELS[name]
    model = random_model(structure, mm=mm, **share)
    model.save_pretrained(tmp_path)
    forget_sharing(tmp_path)
    dropped = {"bbox_embed": "model.decoder.", "model.decoder.bbox_embed": ""}[kept]
    heads = (f"{dropped}bbox_embed.", f"{dropped}class_embed.")
    path = tmp_path / "model.safetensors"
    both = {key: value.clone() for key, value in model.state_dict().items()}
    save_file({key: both[key] for key in both if not key.startswith(heads)}, path)
    card = card_of(tmp_path)
    assert_same(answer(load(card), scene), library_answer(model, card, scene))


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "own.pth", "renamed.safetensors"])
def test_every_file_format_is_read(tmp_path: Path, scene: ImageRGB, weights: str) -> None:
    model = random_model(TINY, **SEPARATE)
    model.save_pretrained(tmp_path)
    safe = tmp_path / "model.safetensors"
    expected = answer(load(card_of(tmp_path)), scene)
    if weights.endswith(".safetensors"):
        safe.rename(tmp_path / weights)
    else:
        safe.unlink()
        # A .bin has every name of a shared tensor.
        torch.save(model.state_dict(), tmp_path / weights)
    assert_same(answer(load(card_of(tmp_path)), scene), expected)


def test_repository_as_on_the_hub_is_read_with_its_own_tokenizer(
    tmp_path: Path, scene: ImageRGB
) -> None:
    """config.json, model.safetensors, tokenizer.json, vocab.txt, preprocessor_config.json."""
    random_model(TINY, mm=False).save_pretrained(tmp_path)
    shutil.copy(BERT / "tokenizer.json", tmp_path)
    write_vocabulary(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 800}}')
    own = answer(load(card_of(tmp_path, text_encoder="checkpoint")), scene)
    assert_same(own, answer(load(card_of(tmp_path)), scene))


def write_vocabulary(folder: Path) -> None:
    vocab = Tokenizer.from_file(str(BERT / "tokenizer.json")).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=lambda it: vocab[it])) + "\n")


def test_tokenizer_of_vocab_txt_is_that_of_tokenizer_json(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    phrases = (*PHRASES, "Café au lait", "naïve co-operation!", "日本語", "x" * 120, "T-shirt's")
    packaged = CaptionTokenizer.from_folder(BERT, 256)
    built = CaptionTokenizer.from_folder(tmp_path, 256)
    assert built(phrases) == packaged(phrases)
    assert built.boundary_ids == packaged.boundary_ids


def damage(name: str, content: str) -> Any:
    return lambda folder: (folder / name).write_text(content)


def shrink_vocabulary(folder: Path) -> None:
    content = json.loads((BERT / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {token: i for token, i in vocab.items() if i < 28_996}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def swap_tokens(folder: Path) -> None:
    content = json.loads((BERT / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    vocab["."], vocab["!"] = vocab["!"], vocab["."]
    (folder / "tokenizer.json").write_text(json.dumps(content))


SENTENCES: dict[str, tuple[Any, str]] = {
    "no config.json": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "damaged config.json": (
        damage("config.json", '{"model_type": "groun'),
        "config.json of own is",
    ),
    "config.json of a list": (damage("config.json", "[]"), "config.json of own is damaged, or not"),
    "config.json of another model": (
        damage("config.json", '{"model_type": "owlvit"}'),
        "not that of a Grounding DINO",
    ),
    "config.json with a wrong type": (
        damage("config.json", '{"model_type": "grounding-dino", "d_model": "wide"}'),
        "config.json of own is damaged",
    ),
    "config.json of another size": (
        lambda folder: (folder / "config.json").write_text(
            (folder / "config.json").read_text().replace('"d_model": 64', '"d_model": 128')
        ),
        "other sizes than its config.json says",
    ),
    "no tokenizer.json": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "has no tokenizer.json",
    ),
    "damaged tokenizer.json": (
        damage("tokenizer.json", '{"version": "1.0"'),
        "tokenizer.json is damaged",
    ),
    "tokenizer.json of nothing": (damage("tokenizer.json", "{}"), "tokenizer.json is damaged"),
    "tokenizer.json with few tokens": (
        shrink_vocabulary,
        "has 28996 tokens, its text encoder 30522",
    ),
    "tokenizer.json with other ids": (swap_tokens, "not that of bert-base-uncased"),
    "vocab.txt of something else": (
        lambda folder: (
            (folder / "tokenizer.json").unlink(),
            (folder / "vocab.txt").write_text("a\nb\n"),
        ),
        "vocab.txt is damaged, or not of BERT",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_what_does_not_fit_is_one_sentence_that_says_which_it_is(
    tmp_path: Path, name: str, tiny_checkpoint: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    spoil, sentence = SENTENCES[name]
    spoil(tmp_path)
    with pytest.raises(ModelError) as caught:
        load(card_of(tmp_path, text_encoder="checkpoint"))
    assert sentence in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    random_model(TINY, mm=False).save_pretrained(folder)
    shutil.copy(BERT / "tokenizer.json", folder)
    return folder


def test_checkpoint_of_groundingdino_is_sent_to_its_engine(tmp_path: Path) -> None:
    torch.save({"model": {"transformer.level_embed": torch.zeros(4, 8)}}, tmp_path / "own.pth")
    with pytest.raises(ModelError, match="Set `engine: groundingdino` in the card of own"):
        load(card_of(tmp_path))


def test_unknown_text_encoder_is_a_sentence(tmp_path: Path, tiny_checkpoint: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    with pytest.raises(
        ModelError, match=r"no text encoder 'bert'\. In the card of own, set bert-base-uncased"
    ):
        load(card_of(tmp_path, text_encoder="bert"))


def test_shared_head_of_a_whole_state_dict_serves_the_other_engine(
    tmp_path: Path, demo_card: ModelCard, scene: ImageRGB
) -> None:
    """A .bin repeats the one box head for each layer; groundingdino's engine takes it once."""
    demo = CARDS_FOLDER / "demo"
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(demo / name, tmp_path)
    weights = load_file(demo / "model.safetensors")
    head = {k: v for k, v in weights.items() if k.startswith("bbox_embed.0.")}
    copies = {
        f"{prefix}bbox_embed.{layer}.{name.removeprefix('bbox_embed.0.')}": tensor
        for name, tensor in head.items()
        for layer in range(6)
        for prefix in ("", "model.decoder.")
    }
    layers = json.loads((demo / "config.json").read_text())["decoder_layers"]
    kept = {k: v for k, v in copies.items() if int(k.split("bbox_embed.")[1][0]) < layers}
    torch.save(weights | kept, tmp_path / "pytorch_model.bin")
    card = card_of(tmp_path, engine="groundingdino", text_encoder="checkpoint")
    assert answer(load(card), scene).phrase_max.max() > 0
