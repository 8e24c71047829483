"""Phrases to token ids, and token probabilities back to phrases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from prelabel.errors import ModelError
from prelabel.phrases.captions import Caption, build_captions
from prelabel.phrases.vocabulary import read_tokenizer
from prelabel.types import Floats

_BOUNDARIES = ("[CLS]", "[SEP]", ".", "?")
_ROUNDED_UP = 128  # more than the usual multiples, which are 8, 64 and 128


@dataclass(frozen=True, slots=True)
class TokenisedCaption:
    """A chunk of the phrases as the model reads it.

    ids: token ids, [CLS] and [SEP] included; spans: [start, end) of each phrase in tokens;
    first_phrase: index of the chunk's first phrase among all phrases.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    first_phrase: int


class CaptionTokenizer:
    """Captions of at most `max_tokens` tokens. Immutable, so any number of threads may share it."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        # Files saved after training carry the limits of training: without this, long captions
        # are cut without a word.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    @classmethod
    def from_folder(cls, folder: Path, max_tokens: int) -> CaptionTokenizer:
        """Read tokenizer.json, or vocab.txt where that is missing.

        Raises ModelError where there is neither, and for a damaged file.
        """
        return cls(read_tokenizer(folder), max_tokens)

    def require_fit(self, name: str, embeddings: int) -> None:
        """Raise ModelError unless the vocabulary is that of a text encoder with so many embeddings.

        Some training programs round the number of embeddings up.
        """
        tokens = self._tokenizer.get_vocab_size()
        if not tokens <= embeddings < tokens + _ROUNDED_UP:
            raise ModelError(
                f"The tokenizer of {name} has {tokens} tokens, its text encoder {embeddings}. "
                "Put the tokenizer.json that belongs to the weights beside them."
            )

    def require_boundaries(self, name: str, ids: Sequence[int]) -> None:
        """Raise ModelError unless [CLS], [SEP], "." and "?" have these ids."""
        if self.boundary_ids != tuple(ids):
            raise ModelError(
                f"The tokenizer of {name} is not that of bert-base-uncased, which its model needs. "
                "Say `text_encoder: bert-base-uncased` in its card."
            )

    def __call__(self, phrases: Sequence[str]) -> list[TokenisedCaption]:
        """One caption per chunk of the phrases. Raises PromptError, see `build_captions`."""
        captions = build_captions(phrases, self._count, self._max_tokens)
        return [self._tokenise(caption) for caption in captions]

    @property
    def boundary_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that part phrases: [CLS], [SEP], "." and "?"."""
        ids = (self._tokenizer.token_to_id(token) for token in _BOUNDARIES)
        return tuple(token_id for token_id in ids if token_id is not None)

    def _count(self, phrase: str) -> int:
        return len(self._tokenizer.encode(phrase, add_special_tokens=False).ids)

    def _tokenise(self, caption: Caption) -> TokenisedCaption:
        encoding = self._tokenizer.encode(caption.text)
        starts = np.array([start for start, _ in encoding.offsets])
        # [CLS] and [SEP] have the offsets (0, 0), so that starts are sorted without [SEP] only.
        spans = np.searchsorted(starts[1:-1], np.array(caption.spans)) + 1
        return TokenisedCaption(
            ids=tuple(encoding.ids),
            spans=tuple((int(start), int(end)) for start, end in spans),
            first_phrase=caption.first_phrase,
        )


def phrase_max_mean(token_probs: Floats, spans: Sequence[tuple[int, int]]) -> tuple[Floats, Floats]:
    """Greatest and mean probability over each phrase's tokens.

    token_probs: [Q, T]; spans: P pairs, ascending, each of at least one token and followed by
    another (there is always the "." that ends a phrase). Returns two [Q, P].
    """
    edges = np.array(spans, dtype=np.intp).ravel()  # start, end, start, end, ...
    lengths = np.diff(edges)[::2].astype(token_probs.dtype)
    greatest = np.maximum.reduceat(token_probs, edges, axis=1)[:, ::2]
    mean = np.add.reduceat(token_probs, edges, axis=1)[:, ::2] / lengths
    return greatest, mean
