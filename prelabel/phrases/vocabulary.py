"""Which words a model can read: those that its tokenizer does not turn into "[UNK]" alone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from prelabel.checkpoints.cards import TEXT_ENCODERS_FOLDER
from prelabel.errors import ModelError
from prelabel.phrases.captions import can_be_read, normalise_phrase

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
        """Read the tokenizer of that folder, see `read_tokenizer`."""
        tokenizer = read_tokenizer(folder)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer)

    def reads(self, phrase: str) -> bool:
        """Return whether a caption has room for the phrase, and the model a token for a part of it.

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
    return Vocabulary.from_folder(TEXT_ENCODERS_FOLDER / "bert-base-uncased")


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of tokenizer.json, or of vocab.txt where that is missing.

    Raises ModelError where there is neither, and for a damaged file.
    """
    path, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if not path.is_file() and vocabulary.is_file():
        return _from_vocabulary(vocabulary)
    try:
        content = json.loads(path.read_text())
        if not content["model"]["vocab"]:
            raise ValueError("no vocabulary")
    except FileNotFoundError as error:
        raise ModelError(
            "The model has no tokenizer.json. Say `text_encoder: bert-base-uncased` in its "
            "card, or put the file beside its weights."
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            "The model's tokenizer.json is damaged, or none. Say `text_encoder: "
            "bert-base-uncased` in its card, or put the file beside its weights again."
        ) from error
    return Tokenizer.from_file(str(path))


def _from_vocabulary(path: Path) -> Tokenizer:
    """The tokenizer of bert-base-uncased with the tokens of vocab.txt, one a line."""
    vocab = {token: index for index, token in enumerate(path.read_text().splitlines())}
    if any(token not in vocab for token in ("[CLS]", "[SEP]", "[UNK]")):
        raise ModelError(
            "The model's vocab.txt is damaged, or not of BERT. Say `text_encoder: "
            "bert-base-uncased` in its card, or put the file beside its weights again."
        )
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    return tokenizer
