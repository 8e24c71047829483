"""Phrases to token ids, and token probabilities to phrase probabilities."""

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

_BOUNDARIES = ("[CLS]", "[SEP]", ".", "?")  # tokens that separate phrases
# Training programs round the number of embeddings up to a multiple of 8, 64 or 128.
_MAX_ROUNDING = 128


@dataclass(frozen=True, slots=True)
class TokenisedCaption:
    """A caption (one chunk of the phrases) in tokens.

    Attributes:
        ids: Token ids, [CLS] and [SEP] included.
        spans: [start, end) of each phrase in tokens.
        first_phrase: Index of the chunk's first phrase among all phrases.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    first_phrase: int


class CaptionTokenizer:
    """Builds captions of at most `max_tokens` tokens. Immutable, so threads may share it."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        # Files saved after training carry the limits of training, by which long captions would be
        # cut silently.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    @classmethod
    def from_folder(cls, folder: Path, max_tokens: int) -> CaptionTokenizer:
        """Read tokenizer.json, or vocab.txt if that is missing.

        Raises:
            ModelError: Both are missing, or the file is damaged.
        """
        return cls(read_tokenizer(folder), max_tokens)

    def require_fit(self, name: str, embeddings: int) -> None:
        """Raise ModelError unless the vocabulary fits a text encoder with so many embeddings."""
        tokens = self._tokenizer.get_vocab_size()
        if not tokens <= embeddings < tokens + _MAX_ROUNDING:
            raise ModelError(
                f"The tokenizer of {name} has {tokens} tokens, its text encoder {embeddings}. "
                "Put the tokenizer.json that belongs to the weights beside them."
            )

    def require_boundaries(self, name: str, ids: Sequence[int]) -> None:
        """Raise ModelError unless the boundary tokens [CLS], [SEP], "." and "?" have these ids."""
        if self.boundary_ids != tuple(ids):
            raise ModelError(
                f"The tokenizer of {name} is not that of bert-base-uncased, which its model needs. "
                "Say `text_encoder: bert-base-uncased` in its card."
            )

    def __call__(self, phrases: Sequence[str]) -> list[TokenisedCaption]:
        """Return one caption per chunk of the phrases.

        Raises:
            PromptError: A phrase has no words for the model, or does not fit a caption.
        """
        captions = build_captions(phrases, self._count, self._max_tokens)
        return [self._tokenise(caption) for caption in captions]

    @property
    def boundary_ids(self) -> tuple[int, ...]:
        """Ids of the boundary tokens [CLS], [SEP], "." and "?" that the vocabulary has."""
        ids = (self._tokenizer.token_to_id(token) for token in _BOUNDARIES)
        return tuple(token_id for token_id in ids if token_id is not None)

    def _count(self, phrase: str) -> int:
        return len(self._tokenizer.encode(phrase, add_special_tokens=False).ids)

    def _tokenise(self, caption: Caption) -> TokenisedCaption:
        encoding = self._tokenizer.encode(caption.text)
        starts = np.array([start for start, _ in encoding.offsets])
        # [CLS] and [SEP] have the offsets (0, 0): without them the starts are sorted.
        spans = np.searchsorted(starts[1:-1], np.array(caption.spans)) + 1
        return TokenisedCaption(
            ids=tuple(encoding.ids),
            spans=tuple((int(start), int(end)) for start, end in spans),
            first_phrase=caption.first_phrase,
        )


def phrase_max_mean(token_probs: Floats, spans: Sequence[tuple[int, int]]) -> tuple[Floats, Floats]:
    """Return the greatest and the mean probability over each phrase's tokens, two arrays [Q, P].

    Args:
        token_probs: [Q, T], probabilities of Q queries for T tokens.
        spans: P pairs [start, end), ascending, each of at least one token and followed by another
            token (each phrase ends with a ".").
    """
    # Start, end, start, end, ...: `reduceat` reduces between neighbours, and each second result,
    # between the end of a phrase and the start of the next, is dropped.
    edges = np.array(spans, dtype=np.intp).ravel()
    lengths = np.diff(edges)[::2].astype(token_probs.dtype)
    greatest = np.maximum.reduceat(token_probs, edges, axis=1)[:, ::2]
    mean = np.add.reduceat(token_probs, edges, axis=1)[:, ::2] / lengths
    return greatest, mean
