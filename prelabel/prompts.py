"""Which prompt and thresholds apply, and what a prompt says."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from prelabel.errors import PromptError
from prelabel.names import fold
from prelabel.types import Asked

_PHRASE_END = ",，、"  # within a line of a prompt
_LINE_END = ".;。；\n\r"
_LABEL_END = ":："
_ENDS = _PHRASE_END + _LINE_END + _LABEL_END


@dataclass(frozen=True, slots=True)
class Wanted:
    """A phrase to look for. label: the name of the label that its boxes get, where the prompt
    says so; else the phrase itself is one.
    """

    phrase: str
    label: str | None = None


def what_applies(
    *,
    context: Asked,
    drafts: Asked,
    task: Asked,
    remembered: Asked,
    config: Asked,
    settings: Asked,
) -> Asked:
    """The one precedence, value by value.

    What the annotator just typed, what stands in the task's drafts, what the task was imported
    with, what the project's newest annotation said, what the labeling config says, the service's
    settings.
    """
    asked = context.or_else(drafts).or_else(task).or_else(remembered)
    return asked.or_else(config).or_else(settings)


def split_prompt(prompt: str, max_chars: int, names: Collection[str] = ()) -> tuple[Wanted, ...]:
    """What a prompt says: "cat . red star" two phrases; "car: sedan, pickup . cat" three, the first
    two of which are to become "car"; "brown cat_cats" one, which is to become "cats".

    Phrases end at ".", ",", ";" and line ends, a label's name at ":", and what it is said of at
    the next of these but ",". Inside one of the `names` none of them counts: with the label
    "St. Bernard", "st. bernard, cat" has two phrases. Raises PromptError for a prompt that is too
    long.
    """
    if len(prompt) > max_chars:
        raise PromptError(f"The prompt is longer than {max_chars} characters. Shorten it.")
    folded = prompt.casefold()
    odd = (n for n in names if n.casefold() in folded and re.search(f"[{_ENDS}]", n))
    whole = sorted(odd, key=len, reverse=True)
    part = "|".join([*map(re.escape, whole), f"[^{_ENDS}]*"])
    known = {fold(name) for name in names}
    wanted: list[Wanted] = []
    label, lonely = None, False
    for text, end in re.findall(rf"\s*({part})[^\S\n\r]*([{_ENDS}]|$)", prompt, re.IGNORECASE):
        phrase = " ".join(text.split())
        if phrase and end and end in _LABEL_END:
            label, lonely = phrase, True
        elif phrase:
            wanted.append(Wanted(phrase, label) if label else _underscored(phrase, known))
            lonely = False
        if not end or end in _LINE_END:
            if label and lonely:  # "car:" and nothing behind it
                wanted.append(Wanted(label))
            label = None
    return tuple(dict.fromkeys(wanted))


def _underscored(phrase: str, known: Collection[str]) -> Wanted:
    """Label Studio's own example backend writes "phrase_label"."""
    start, _, label = phrase.rpartition("_")
    if start.strip() and fold(label) in known and fold(phrase) not in known:
        return Wanted(start.strip(), label.strip())
    return Wanted(phrase)
