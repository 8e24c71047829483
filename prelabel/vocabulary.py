"""Which words a model can read: those that its tokenizer does not turn into "[UNK]" alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from prelabel.captions import can_be_read, normalise_phrase
from prelabel.cards import CARDS_FOLDER
from prelabel.errors import ModelError

_UNKNOWN = "[UNK]"
_MOST_KNOWN = 20_000


class Vocabulary:
    """The words of a model's text encoder. Can be sent to other processes, and asked by threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, bool] = {}  # each task asks for the same words again

    def __getstate__(self) -> dict[str, object]:
        return {"_tokenizer": self._tokenizer, "_known": {}}

    @classmethod
    def from_folder(cls, folder: Path) -> Vocabulary:
        """Read tokenizer.json. Raises ModelError where there is none that can be read."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                "The model has no tokenizer.json. Say `text_encoder: bert-base-uncased` in its "
                "card, or put the file beside its weights."
            )
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer)

    def reads(self, phrase: str) -> bool:
        """Whether a caption has room for the phrase, and the model a token for a part of it.

        Signs do not count: of "猫!", the "!" alone would be read.
        """
        known = self._known.get(phrase)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = can_be_read(phrase) and self._has_a_token(phrase)
            self._known[phrase] = known
        return known

    def _has_a_token(self, phrase: str) -> bool:
        encoding = self._tokenizer.encode(normalise_phrase(phrase), add_special_tokens=False)
        return any(
            token != _UNKNOWN and any(char.isalnum() for char in token) for token in encoding.tokens
        )


@cache
def shipped_vocabulary() -> Vocabulary:
    """That of BERT in English, which the embedded and all known checkpoints read."""
    return Vocabulary.from_folder(CARDS_FOLDER / "bert-base-uncased")
