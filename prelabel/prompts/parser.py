"""Prompt text -> the phrases that it states, before any label is resolved.

In: the text that an annotator typed, and the names of the project's labels, because a label such
as "St. Bernard" contains a separator. Out: `ParsedPhrase` values in the order of the prompt, each
with the label that the prompt names for it, or marked as a negative. `resolver` finds their labels.
docs/user/prompts.md describes the syntax for users.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from prelabel.errors import PromptError
from prelabel.phrases.names import fold, tidy

_PHRASE_SEPARATORS = ",，、،|•"  # separate the phrases of one line
_LINE_SEPARATORS = ".;。；؛۔।．\n"
_LABEL_SEPARATORS = ":："
_SEPARATORS = _PHRASE_SEPARATORS + _LINE_SEPARATORS + _LABEL_SEPARATORS
_DASHES = ("-", "\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212")
_NEGATION_SIGNS = (*_DASHES, "!")
_INNER_NEGATION = re.compile(r"(?<=\S)\s+(?=[-!][^\W\d_])")  # "cat -dog" has no separator
# Bullets; checkboxes; "1." "2)" "(3)" "4 -" "a)"; enclosed numbers and keycap emoji.
_LIST_MARKER = re.compile(
    r"\s*(?:([-\u2010-\u2014\u2212*•·‣▪●◦○+]|\[[ xX✓]?\]|[\u2460-\u2473]"
    r"|\d\ufe0f?\u20e3|\(?\d{1,3}\)|\d{1,3}\s?-|[a-z]\))\s+(?=\S)"
    r"|(\d{1,3}[.．)]\s*)(?=[^\W\d]|\s))"
)
# Placeholders for list markers. They are rare in prompts, and no separator or negation sign.
_DASH_BULLET, _OTHER_MARKER = "\u2043", "\u2219"
_NEGATION_WORDS = frozenset({"not", "no", "without", "except", "exclude", "excluding"})


@dataclass(frozen=True, slots=True)
class ParsedPhrase:
    """A phrase to search for.

    Attributes:
        phrase: The phrase as it was typed.
        label: The label that the prompt names for the phrase's boxes. Without one, the phrase
            itself may be the name of a label.
        negative: True if the boxes are dropped. A negative is searched for, so that its objects
            are not detected as other phrases.
    """

    phrase: str
    label: str | None = None
    negative: bool = False


def split_prompt(
    prompt: str, max_chars: int, names: Collection[str] = ()
) -> tuple[ParsedPhrase, ...]:
    """Split a prompt into distinct phrases.

    "cat . red star" has two phrases. "car: sedan, pickup . cat" has three, and the label of the
    first two is "car". "brown cat_cats" has one, whose label is "cats". "cat . -dog" and
    "cat . not: dog" have two, and the second is a negative.

    A phrase ends at ".", ",", ";" or the end of a line. A label's name ends at ":", and its list of
    phrases at any other separator but ",". List markers at the start of a line are removed. Dashes
    are list markers if every phrase has one.

    Args:
        prompt: The text.
        max_chars: The longest text that is accepted.
        names: Names of labels. Separators inside of a name do not count: with the label
            "St. Bernard", "st. bernard, cat" has two phrases.

    Raises:
        PromptError: The prompt is longer than `max_chars`.
    """
    if len(prompt) > max_chars:
        raise PromptError(f"The prompt is longer than {max_chars} characters. Shorten it.")
    label_names = frozenset(fold(name) for name in names) - {""}
    segments = [
        segment
        for text, separator in _split_at_separators(prompt, names, label_names)
        for segment in _Segment.parse(text, separator, label_names)
    ]
    phrases = [segment for segment in segments if segment.phrase]
    # A dash before every phrase is a list, not a prompt of negatives alone.
    if all(segment.has_bullet or segment.negative for segment in phrases):
        segments = [
            replace(segment, negative=segment.negative and segment.has_bullet)
            for segment in segments
        ]
    assembler = _PhraseAssembler(label_names)
    for segment in segments:
        assembler.feed(segment)
    return tuple(dict.fromkeys(assembler.phrases))


@dataclass(frozen=True, slots=True)
class _Segment:
    """The text between two separators.

    Attributes:
        phrase: The text without list marker and negation sign; may be empty.
        separator: The separator that ends it; "" at the end of the prompt.
        has_bullet: True if a dash followed by a space precedes it at the start of a line. Also
            True for an exclamation mark, which is a negation sign even in a list of dashes.
        negative: True if a negation sign precedes it.
        listed: True if its line has a list marker of any kind.
    """

    phrase: str
    separator: str
    has_bullet: bool = False
    negative: bool = False
    listed: bool = False

    @classmethod
    def parse(cls, text: str, separator: str, label_names: Collection[str]) -> Iterator[_Segment]:
        """Yield one segment, or several if negatives follow without a separator: "cat -dog"."""
        if fold(text) in label_names:
            yield cls(text, separator)
            return
        parts = _INNER_NEGATION.split(text)
        for number, part in enumerate(parts, start=1):
            unmarked = part.lstrip(_DASH_BULLET + _OTHER_MARKER)
            signs = "".join(_NEGATION_SIGNS) + " "
            phrase = unmarked.lstrip(signs) if unmarked.startswith(_NEGATION_SIGNS) else unmarked
            # split_prompt may read a dash as a bullet, but never an exclamation mark.
            has_bullet = part.startswith(_DASH_BULLET) or unmarked.startswith("!")
            yield cls(
                phrase,
                separator if number == len(parts) else ",",
                has_bullet,
                negative=phrase != unmarked,
                listed=unmarked != part,
            )


class _PhraseAssembler:
    """Assembles phrases from segments; its state is the label whose list is being read.

    label_names: the folded names of the labels.
    """

    def __init__(self, label_names: Collection[str]) -> None:
        self.phrases: list[ParsedPhrase] = []
        self._label_names = label_names
        self._label: str | None = None
        self._negative = False  # the whole list is negative, as in "not: cat, dog"
        self._is_empty = False  # the list has no phrase yet that gets the label
        self._at_line_end = False  # the line ended directly after the label's ":"
        self._is_bullet_list = False  # the list stands below its label, with list markers

    def feed(self, segment: _Segment) -> None:
        """Consume the next segment."""
        phrase, separator = segment.phrase, segment.separator
        if self._is_bullet_list and not segment.listed:
            self._end_list()
        if phrase and separator and separator in _LABEL_SEPARATORS:
            self._begin_list(segment)
            return
        if phrase:
            self._add_phrase(segment)
        if separator == "\n" and (
            self._is_bullet_list or (self._is_empty and not self._at_line_end)
        ):
            self._at_line_end = True  # the list may continue in the next line
        elif not separator or separator in _LINE_SEPARATORS:
            self._end_list()

    def _begin_list(self, segment: _Segment) -> None:
        self._end_list()
        name = fold(segment.phrase)
        is_negation = name in _NEGATION_WORDS and name not in self._label_names
        self._label = None if is_negation else segment.phrase
        self._negative = is_negation or segment.negative
        self._is_empty = True

    def _add_phrase(self, segment: _Segment) -> None:
        if self._at_line_end:
            # The name of a label in a line of its own does not belong to the list above it.
            is_label = fold(segment.phrase) in self._label_names
            if is_label and not (self._negative or segment.listed):
                self._end_list()
            in_list = self._label is not None or self._negative
            self._is_bullet_list = segment.listed and in_list
        self.phrases.append(self._parsed(segment.phrase, segment.negative))
        self._is_empty = self._is_empty and segment.negative and not self._negative
        self._at_line_end = False

    def _parsed(self, phrase: str, negative: bool) -> ParsedPhrase:
        if negative or self._negative:
            return ParsedPhrase(phrase, negative=True)
        if self._label:
            return ParsedPhrase(phrase, self._label)
        return self._split_underscore(phrase)

    def _end_list(self) -> None:
        if self._label and self._is_empty:  # "car:" without a list searches for the label itself
            self.phrases.append(ParsedPhrase(self._label, negative=self._negative))
        self._label, self._negative, self._is_bullet_list = None, False, False
        self._is_empty, self._at_line_end = False, False

    def _split_underscore(self, phrase: str) -> ParsedPhrase:
        """Split "brown cat_cats" into phrase and label, as Label Studio's example backend does.

        A phrase without spaces, such as "traffic_light", is an identifier and stays whole.
        """
        start, _, label = phrase.rpartition("_")
        is_pair = " " in phrase and start.strip() and fold(label) in self._label_names
        if is_pair and fold(phrase) not in self._label_names:
            return ParsedPhrase(start.strip(), label.strip())
        return ParsedPhrase(phrase)


def _split_at_separators(
    prompt: str, names: Collection[str], label_names: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield each text, which may be empty, with the separator that ends it."""
    lines = unicodedata.normalize("NFC", prompt).splitlines()
    marker_names = tuple(name for name in label_names if _LIST_MARKER.match(f"{name} x"))
    # Tabs separate the cells of a pasted table.
    lines = [_mark_list_item(line, marker_names).strip().replace("\t", ",") for line in lines]
    text = "\n".join(" ".join(line.split()) for line in lines)
    # casefold() changes the length of some texts ("ß" becomes "ss"), so that offsets are mapped.
    folded = text.casefold()
    offsets = [offset for offset, char in enumerate(text) for _ in char.casefold()]
    part = "|".join([*_separator_name_patterns(names, folded), f"[^{_SEPARATORS}]"])
    for match in re.finditer(rf"[^\S\n]*((?:{part})*)([{_SEPARATORS}]|\Z)", folded):
        start, stop = (offsets[at] if at < len(offsets) else len(text) for at in match.span(1))
        yield " ".join(text[start:stop].split()), match[2]


def _mark_list_item(line: str, marker_names: tuple[str, ...]) -> str:
    """Replace the line's list marker ("1.", "2)", "*") by a placeholder.

    marker_names: folded names of labels that begin like a list marker, such as "1. FC Köln".
    """
    marker = _LIST_MARKER.match(line)
    if marker is None or (marker_names and fold(line).startswith(marker_names)):
        return line
    is_dash = (marker[1] or "").startswith(_DASHES)
    return (_DASH_BULLET if is_dash else _OTHER_MARKER) + line[marker.end() :]


def _separator_name_patterns(names: Collection[str], folded: str) -> Iterator[str]:
    """Yield patterns of the prompt's label names that contain separators, the longest first.

    A plural "s" may follow a name, and its spaces may be missing.
    """
    compact = "".join(folded.split())
    candidates = {tidy(name).casefold() for name in names if re.search(f"[{_SEPARATORS}]", name)}
    present = (name for name in candidates if "".join(name.split()) in compact)
    # Literals, because patterns with optional spaces take seconds to compile for hundreds of names.
    literals = {
        literal for name in present for literal in _space_variants(name) if literal in folded
    }
    for name in sorted(literals, key=len, reverse=True):
        before = r"(?<![^\W_])" if name[0].isalnum() else ""
        after = r"(?:e?s)?(?![^\W_])" if name[-1].isalnum() else ""
        yield before + re.escape(name) + after


def _space_variants(name: str) -> tuple[str, str, str]:
    """Return the name as spelled, without spaces around its separators, and without any space."""
    tight = re.sub(rf"\s*([{_SEPARATORS}])\s*", r"\1", name)
    return name, tight, "".join(name.split())
