"""The small Grounding DINO: its sizes, its vocabulary, and its initial weights."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SwinConfig,
)
from transformers.utils import logging

from prelabel.checkpoints.cards import TEXT_ENCODERS_FOLDER
from prelabel.engines.device import guard_convolutions
from prelabel.engines.tokenizer import CaptionTokenizer
from training.world import World

BERT_VOCABULARY = 30522
_TOKENIZER = TEXT_ENCODERS_FOLDER / "bert-base-uncased" / "tokenizer.json"
_MAX_TOKENS = 256
_EMBEDDING_KEY = "model.text_backbone.embeddings.word_embeddings.weight"
QUERIES_KEY = "model.query_position_embeddings.weight"
_QUERIES = 50
_UNKNOWN_ROW = 0  # also that of the padding, which is masked
_FUSION_SCALE = 0.3  # initial weight of the fusion layers' residuals
_SYNONYM_NOISE = 0.3  # share of its own random embedding that a synonym starts with
# Initial token logits of about -3.5, spread over 16 channels; see `_initialise`.
_PRIOR_LOGIT, _PRIOR_CHANNELS, _NORM_SCALE = 3.5, 16, 0.25


def demo_config(vocabulary: int, queries: int = _QUERIES) -> GroundingDinoConfig:
    """Return the config: 12.6 million parameters with BERT's whole vocabulary of 30,522 tokens.

    There is no dropout, because scenes never repeat.
    """
    return GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=224,
            embed_dim=32,
            depths=[2, 2, 2, 2],
            num_heads=[2, 4, 8, 16],
            window_size=7,
            out_indices=[2, 3, 4],  # type: ignore[call-arg]
            drop_path_rate=0.0,
        ),
        text_config=BertConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        num_queries=queries,
        d_model=256,
        encoder_layers=2,
        encoder_ffn_dim=512,
        decoder_layers=2,
        decoder_ffn_dim=512,
        num_feature_levels=4,
        disable_custom_kernels=True,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        fusion_dropout=0.0,
        fusion_droppath=0.0,
        text_enhancer_dropout=0.0,
    )


class Vocabulary:
    """The words of training, in compact rows. All other words share one row, the unknown.

    Training a row for each of BERT's 30,522 tokens would cost a third of each optimiser step, and
    most rows would stay random. With a shared row, unknown words learn to find nothing.
    """

    def __init__(self, world: World) -> None:
        self._tokenizer = Tokenizer.from_file(str(_TOKENIZER))
        self._captions = CaptionTokenizer(self._tokenizer, _MAX_TOKENS)
        known = set(self._tokenizer.encode(".").ids)  # with [CLS] and [SEP]
        for wording in world.wordings:
            known.update(self.bert_ids(wording))
        self._bert_ids = sorted(known)
        self._row = {bert_id: row for row, bert_id in enumerate(self._bert_ids, start=1)}

    def __len__(self) -> int:
        return len(self._bert_ids) + 1

    def bert_ids(self, phrase: str) -> list[int]:
        """Return BERT's token ids of a phrase, without special tokens."""
        return list(self._tokenizer.encode(phrase, add_special_tokens=False).ids)

    def rows(self, phrase: str) -> list[int]:
        """Return the rows of a phrase in this vocabulary."""
        return [self._row.get(bert_id, _UNKNOWN_ROW) for bert_id in self.bert_ids(phrase)]

    def caption(self, phrases: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the service's caption in rows of this vocabulary, and the phrase of each token.

        The phrase of a token is its index, or -1.
        """
        (caption,) = self._captions(phrases)
        owner = [-1] * len(caption.ids)
        for number, (start, end) in enumerate(caption.spans):
            owner[start:end] = [number] * (end - start)
        return [self._row.get(bert_id, _UNKNOWN_ROW) for bert_id in caption.ids], owner

    def expanded(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the embedding of BERT's whole vocabulary, made from this vocabulary's."""
        full = embedding[_UNKNOWN_ROW].repeat(BERT_VOCABULARY, 1)
        full[self._bert_ids] = embedding[1:]
        return full

    def unknown_words(self) -> list[str]:
        """Return words of BERT's vocabulary that are not in this one."""
        words = self._tokenizer.get_vocab()
        return sorted(
            word
            for word, bert_id in words.items()
            if word.isascii() and word.isalpha() and len(word) > 3 and bert_id not in self._row
        )


def build_model(world: World, vocabulary: Vocabulary, seed: int) -> GroundingDinoForObjectDetection:
    """Build the untrained model in evaluation mode, which skips transformers' training checks.

    The mode does not matter otherwise, because there is no dropout.
    """
    torch.manual_seed(seed)
    model = GroundingDinoForObjectDetection(demo_config(len(vocabulary)))
    with torch.no_grad():
        _initialise(model)
        _initialise_synonyms(model, world, vocabulary)
    guard_convolutions(model)
    model.train(False)
    return model


def set_queries(model: GroundingDinoForObjectDetection, count: int) -> None:
    """Change the number of queries of a model. The learned queries are repeated."""
    table = model.model.query_position_embeddings.weight
    table.grad = None
    table.data = repeated(table.data, count)
    model.config.num_queries = count


def repeated(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return `count` rows that repeat the given rows in turn."""
    return rows[torch.arange(count, device=rows.device) % len(rows)].clone()


def _initialise(model: GroundingDinoForObjectDetection) -> None:
    for name, module in model.named_modules():
        # These keep transformers' own initial values.
        is_special = "sampling_offsets" in name or "attention_weights" in name
        is_special = is_special or ("bbox_embed" in name and name.endswith("layers.2"))
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and not is_special):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                module.bias.zero_()
    inner = model.model
    inner.query_position_embeddings.weight.normal_(0, 0.5)
    # Words must outweigh the position embeddings that BERT adds to them.
    inner.text_backbone.embeddings.word_embeddings.weight.normal_(0, 0.1)
    for layer in inner.encoder.layers:
        layer.fusion_layer.vision_param.fill_(_FUSION_SCALE)
        layer.fusion_layer.text_param.fill_(_FUSION_SCALE)
    # Token logits are dot products of 256 channels. The norms before them start small and with
    # opposite offsets, so that logits start near -3.5 with a spread of about 1 instead of 20.
    offset = math.sqrt(_PRIOR_LOGIT / _PRIOR_CHANNELS)
    text_norm = inner.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    for norm, sign in ((inner.decoder.layer_norm, 1), (inner.enc_output_norm, 1), (text_norm, -1)):
        norm.weight.fill_(_NORM_SCALE)
        norm.bias.zero_()
        norm.bias[:_PRIOR_CHANNELS] = sign * offset


def _initialise_synonyms(
    model: GroundingDinoForObjectDetection, world: World, vocabulary: Vocabulary
) -> None:
    """Start "cats" and "kitten" near "cat": rarer words then profit from the frequent one."""
    embedding = model.model.text_backbone.embeddings.word_embeddings.weight
    names = {row for concept in world.concepts for row in vocabulary.rows(concept.name)}
    for concept in world.concepts:
        rows = vocabulary.rows(concept.name)
        for wording in concept.wordings:
            others = vocabulary.rows(wording)
            if len(others) == len(rows):
                for other, row in zip(others, rows, strict=True):
                    if other not in names:
                        embedding[other] = embedding[row] + _SYNONYM_NOISE * embedding[other]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights of a trained model by transformers' names, with its vocabulary."""

    state: dict[str, torch.Tensor]
    vocabulary: Vocabulary

    def save(self, folder: Path) -> None:
        """Write a folder that both engines can load: weights in float16, config and tokenizer."""
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        queries = len(self.state[QUERIES_KEY])
        model = GroundingDinoForObjectDetection(demo_config(BERT_VOCABULARY, queries))
        embedding = self.vocabulary.expanded(self.state[_EMBEDDING_KEY])
        model.load_state_dict(self.state | {_EMBEDDING_KEY: embedding})
        # By way of a model, because save_pretrained writes the names of the file format, which can
        # differ from those in the state of another version of transformers.
        torch.nn.Module.half(model)  # transformers' own `half` is not typed
        model.save_pretrained(folder)
        shutil.copyfile(_TOKENIZER, folder / "tokenizer.json")
