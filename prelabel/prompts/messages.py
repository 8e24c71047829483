"""The error messages about prompts and labels.

In: names that cannot be used, and the labels of the project. Out: one text for annotators: what is
wrong, then what to do. The planner, the journal, the doctor and the route for setup show them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

from prelabel.phrases.captions import fits_in_caption
from prelabel.phrases.matching import nearest

# Symbols above this character are emoji or ideographic signs: they carry a meaning, unlike marks.
_LAST_MARK = "\u2bff"
_MOST_NAMES = 8
_MOST_NAME_CHARS = 60
_MOST_EXAMPLE_CHARS = 80
_MOST_COMPARED = 3  # names for which similar labels are looked up: each costs a scan of all labels

NO_SEGMENTER = (
    "The service draws no masks, because it has no segmenter. Set model.segmenter, such as "
    "slimsam-77; `prelabel models` lists them."
)
NOTHING_NAMED = 'The prompt names nothing to look for. Write it as in "cat . dog".'
ONLY_NEGATIVES = (
    'The prompt excludes everything that it could look for. Remove a minus sign or "not:".'
)


def unknown_phrases_message(unknown: Sequence[str], labels: Sequence[str]) -> str:
    """Return the message about phrases that match none of the project's labels."""
    verb = "is not a label" if len(unknown) == 1 else "are not labels"
    similar = list(
        dict.fromkeys(name for each in unknown[:_MOST_COMPARED] for name in nearest(each, labels))
    )
    nearest_labels = f" The nearest are {quoted_names(similar)}." if similar else ""
    label = next(iter([*similar, *labels]), "label")
    example = f"{label}: {unknown[0]}"[:_MOST_EXAMPLE_CHARS]
    return (
        f"The prompt's {quoted_names(unknown)} {verb} of this project, which has "
        f"{quoted_names(labels)}.{nearest_labels} Use its labels in the prompt, say which one is "
        f'meant ("{example}"), or add labels to the project.'
    )


def unreadable_message(names: Collection[str]) -> str:
    """Return the message about labels or phrases that the model cannot read.

    A model cannot read a phrase that has no word in its vocabulary, or that is too long.
    """
    if not any(_is_more_than_marks(name) for name in names):
        return "There is no word to look for. Use plain words as labels or prompt."
    short = [name for name in names if fits_in_caption(name)]
    if not short:
        return (
            f"{quoted_names(list(names))} is longer than the model can read. Shorten it, or split "
            'it with ".".'
        )
    return (
        f"The model's vocabulary has no word of {quoted_names(short)}. Say what to look for in "
        "words that it has, in the prompt or in the labeling config: "
        f'<Label value="{short[0][:_MOST_NAME_CHARS]}" predicted_values="cat"/>.'
    )


def quoted_names(names: Sequence[str]) -> str:
    """Return the first names in quotes, and the number of the remaining ones."""
    shown = ", ".join(repr(name[:_MOST_NAME_CHARS]) for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _is_more_than_marks(name: str) -> bool:
    return any(unicodedata.category(char)[0] in "LMN" or char > _LAST_MARK for char in name)
