"""Which prompt and thresholds apply, and what a prompt says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from prelabel.errors import PromptError
from prelabel.names import fold, tidy
from prelabel.types import Asked

_PHRASE_END = ",，、"  # within a line of a prompt
_LINE_END = ".;。；\n"
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
    reader = _Reader({fold(name) for name in names})
    for phrase, end in _pieces(prompt, names):
        reader.take(phrase, end)
    return tuple(dict.fromkeys(reader.wanted))


class _Reader:
    """Reads a prompt piece by piece. known: the labels' names, folded."""

    def __init__(self, known: Collection[str]) -> None:
        self.wanted: list[Wanted] = []
        self._known = known
        self._label: str | None = None
        self._is_alone = False  # nothing was said yet of what becomes the label
        self._line_ended = False  # right behind the label's ":"

    def take(self, phrase: str, end: str) -> None:
        """A phrase, which may be empty, and what it ends with; nothing at the prompt's end."""
        if phrase and end and end in _LABEL_END:
            self._close()
            self._label, self._is_alone = phrase, True
            return
        if phrase:
            if self._line_ended and fold(phrase) in self._known:
                self._close()  # a label in a line of its own, not one of the last one's phrases
            said = Wanted(phrase, self._label) if self._label else self._underscored(phrase)
            self.wanted.append(said)
            self._is_alone = self._line_ended = False
        if end == "\n" and self._is_alone and not self._line_ended:
            self._line_ended = True  # its phrases may stand in the next line
        elif not end or end in _LINE_END:
            self._close()

    def _close(self) -> None:
        if self._label and self._is_alone:  # "car:" and nothing behind it
            self.wanted.append(Wanted(self._label))
        self._label, self._is_alone, self._line_ended = None, False, False

    def _underscored(self, phrase: str) -> Wanted:
        """Label Studio's own example backend writes "phrase_label"."""
        start, _, label = phrase.rpartition("_")
        if start.strip() and fold(label) in self._known and fold(phrase) not in self._known:
            return Wanted(start.strip(), label.strip())
        return Wanted(phrase)


def _pieces(prompt: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Phrases, or nothing, and what each ends with."""
    text = "\n".join(unicodedata.normalize("NFC", prompt).splitlines())
    # Characters can become several when their case is evened out: "ß" is "ss".
    folded = text.casefold()
    place = [number for number, char in enumerate(text) for _ in char.casefold()]
    part = "|".join([*_with_separators(names, folded), f"[^{_ENDS}]*"])
    for found in re.finditer(rf"[^\S\n]*({part})[^\S\n]*([{_ENDS}]|\Z)", folded):
        start, stop = (place[at] if at < len(place) else len(text) for at in found.span(1))
        yield " ".join(text[start:stop].split()), found[2]


def _with_separators(names: Collection[str], folded: str) -> Iterator[str]:
    """Patterns of those names in a prompt that must stay whole, the longest first."""
    spaced = " ".join(folded.split())
    odd = {tidy(name).casefold() for name in names if re.search(f"[{_ENDS}]", name)}
    for name in sorted((name for name in odd if name in spaced), key=len, reverse=True):
        yield r"\s+".join(map(re.escape, name.split()))
