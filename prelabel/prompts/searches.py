"""Phrases -> searches: the words that the model searches for, and the key that identifies them.

In: phrases of a prompt or of a labeling config. Out: `Search` values, which `resolver` attaches to
the phrases of a prompt and `targets` to the labels of a picture. Searches with one key are one
phrase to the model.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.labels import Label
from prelabel.phrases.captions import normalise_phrase
from prelabel.phrases.inflection import singular_plural_key
from prelabel.phrases.plain_words import to_words
from prelabel.phrases.vocabulary import Vocabulary


class Search(NamedTuple):
    """Words that the model searches for, and the key under which they are deduplicated."""

    key: str
    words: str


@lru_cache(maxsize=4096)
def prompt_searches(phrases: tuple[str, ...]) -> tuple[Search, ...]:
    """Return the searches for phrases of a prompt; singular and plural have the same key.

    If both were searched for, the model would divide one kind of object between them.
    """
    words = [to_words(phrase) for phrase in phrases]
    return tuple(Search(singular_plural_key(each), each) for each in words)


@lru_cache(maxsize=4096)
def config_searches(phrases: tuple[str, ...]) -> tuple[Search, ...]:
    """Return the searches for phrases of a labeling config, keyed by their form in a caption."""
    words = [to_words(phrase) for phrase in phrases]
    return tuple(Search(normalise_phrase(each), each) for each in words)


def label_searches(label: Label) -> tuple[Search, ...]:
    """Return the searches for a label without a prompt."""
    return config_searches(label.phrases)


def unreadable_labels(config: LabelingConfig, vocabulary: Vocabulary) -> list[str]:
    """Return the labels that have no search with a word in the model's vocabulary."""
    labels = {label.value: label for control in config.controls for label in control.labels}
    return [
        value
        for value, label in labels.items()
        if not any(vocabulary.reads(search.words) for search in label_searches(label))
    ]
