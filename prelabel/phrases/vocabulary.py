"""The vocabulary of a text encoder: the words that its tokenizer does not map to "[UNK]"."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from prelabel.checkpoints.cards import TEXT_ENCODERS_FOLDER
from prelabel.errors import ModelError
from prelabel.phrases.captions import can_be_read, normalise_phrase

_UNKNOWN = "[UNK]"
_MOST_CACHED = 20_000
_USE_BERT = (
    "Write `text_encoder: bert-base-uncased` into its card, or put the file beside its weights"
)


class Vocabulary:
    """The words that a model can read. It can be pickled, and called from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._readable: dict[str, bool] = {}  # a cache: the tasks of a project share their phrases

    def __getstate__(self) -> dict[str, object]:
        return {"_tokenizer": self._tokenizer, "_readable": {}}

    @classmethod
    def from_folder(cls, folder: Path) -> Vocabulary:
        """Read the tokenizer in a folder. Raises ModelError as `read_tokenizer` does."""
        tokenizer = read_tokenizer(folder)
        # BERT's tokenizer.json pads and truncates phrases to 128 tokens.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer)

    def reads(self, phrase: str) -> bool:
        """Return True if the phrase fits in a caption, and any of its words is in the vocabulary.

        Signs do not count as words: the "!" of "猫!" is in the vocabulary, but says nothing.
        """
        readable = self._readable.get(phrase)
        if readable is None:
            if len(self._readable) >= _MOST_CACHED:
                self._readable.clear()
            readable = can_be_read(phrase) and self._has_known_token(phrase)
            self._readable[phrase] = readable
        return readable

    def _has_known_token(self, phrase: str) -> bool:
        encoding = self._tokenizer.encode(normalise_phrase(phrase), add_special_tokens=False)
        return any(
            token != _UNKNOWN and any(char.isalnum() for char in token) for token in encoding.tokens
        )


@cache
def shipped_vocabulary() -> Vocabulary:
    """Return the vocabulary of English BERT, which all shipped checkpoints read."""
    return Vocabulary.from_folder(TEXT_ENCODERS_FOLDER / "bert-base-uncased")


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer of tokenizer.json; or of vocab.txt if there is no tokenizer.json.

    Raises:
        ModelError: Both files are missing, or the file is damaged.
    """
    path, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if not path.is_file() and vocabulary.is_file():
        return _from_vocabulary_file(vocabulary)
    # Checked here, because the tokenizers library raises a bare Exception for damaged files.
    try:
        content = json.loads(path.read_text())
        if not content["model"]["vocab"]:
            raise ValueError("no vocabulary")
    except FileNotFoundError as error:
        raise ModelError(f"The model has no tokenizer.json. {_USE_BERT}.") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"The model's tokenizer.json is damaged, or not a tokenizer. {_USE_BERT} again."
        ) from error
    return Tokenizer.from_file(str(path))


def _from_vocabulary_file(path: Path) -> Tokenizer:
    """Create the tokenizer of bert-base-uncased with the tokens of vocab.txt, one per line."""
    vocab = {token: index for index, token in enumerate(path.read_text().splitlines())}
    if any(token not in vocab for token in ("[CLS]", "[SEP]", _UNKNOWN)):
        raise ModelError(f"The model's vocab.txt is damaged, or not of BERT. {_USE_BERT} again.")
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    return tokenizer
