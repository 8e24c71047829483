"""Which prompt and thresholds apply, and what a prompt says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from prelabel.errors import PromptError
from prelabel.phrases.names import fold, tidy
from prelabel.types import PromptRequest

_PHRASE_END = ",，、،|•"  # within a line of a prompt
_LINE_END = ".;。；؛۔।．\n"
_LABEL_END = ":："
_ENDS = _PHRASE_END + _LINE_END + _LABEL_END
_DASHES = ("-", "\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212")
_SIGNS = (*_DASHES, "!")  # in front of a negative
_SIGN_INSIDE = re.compile(r"(?<=\S)\s+(?=[-!][^\W\d_])")
# Bullets; boxes to tick; "1." "2)" "(3)" "4 -" "a)" and numbers in circles or keys.
_LINE_MARK = re.compile(
    r"\s*(?:([-\u2010-\u2014\u2212*•·‣▪●◦○+]|\[[ xX✓]?\]|[\u2460-\u2473]"
    r"|\d\ufe0f?\u20e3|\(?\d{1,3}\)|\d{1,3}\s?-|[a-z]\))\s+(?=\S)"
    r"|(\d{1,3}[.．)]\s*)(?=[^\W\d]|\s))"
)
_BULLET, _POINT = "\u2043", "\u2219"  # in place of a dash that is a bullet, and of other marks
_NOT = frozenset({"not", "no", "without", "except", "exclude", "excluding"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A phrase to look for. label: the name of the label that its boxes get, where the prompt
    says so; else the phrase itself may be one. negative: it is looked for and left out, so that its
    objects are not taken for others.
    """

    phrase: str
    label: str | None = None
    negative: bool = False


def what_applies(
    *,
    context: PromptRequest,
    drafts: PromptRequest,
    task: PromptRequest,
    remembered: PromptRequest,
    project: PromptRequest,
    config: PromptRequest,
    settings: PromptRequest,
) -> PromptRequest:
    """The one precedence, value by value.

    What the annotator just typed, what stands in the task's drafts, what the task was imported
    with, what the project's newest annotation said, what the extra parameters of the project's
    model say, what the labeling config says, the service's settings.
    """
    asked = context.or_else(drafts).or_else(task).or_else(remembered).or_else(project)
    return asked.or_else(config).or_else(settings)


def split_prompt(prompt: str, max_chars: int, names: Collection[str] = ()) -> tuple[Wanted, ...]:
    """What a prompt says: "cat . red star" two phrases; "car: sedan, pickup . cat" three, the first
    two of which are to become "car"; "brown cat_cats" one, which is to become "cats"; "cat . -dog"
    and "cat . not: dog" two, the second of them a negative.

    Phrases end at ".", ",", ";" and line ends, a label's name at ":", and what it is said of at
    the next of these but ",". Inside one of the `names` none of them counts: with the label
    "St. Bernard", "st. bernard, cat" has two phrases. Bullets and numbers at the start of lines are
    left out; dashes are bullets, too, where every phrase has one. Raises PromptError for a prompt
    that is too long.
    """
    if len(prompt) > max_chars:
        raise PromptError(f"The prompt is longer than {max_chars} characters. Shorten it.")
    known = frozenset(fold(name) for name in names) - {""}
    pieces = [
        piece
        for phrase, end in _pieces(prompt, names, known)
        for piece in _Piece.all_of(phrase, end, known)
    ]
    phrases = [piece for piece in pieces if piece.phrase]
    if all(piece.bulleted or piece.negative for piece in phrases):
        pieces = [replace(piece, negative=piece.negative and piece.bulleted) for piece in pieces]
    reader = _Reader(known)
    for piece in pieces:
        reader.take(piece)
    return tuple(dict.fromkeys(reader.wanted))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A phrase, which may be empty, and what it ends with; nothing at the prompt's end.

    bulleted: a dash and a space stood in front of it, at the start of a line; negative: a dash
    besides; listed: it stands in a line with a bullet or number of any kind.
    """

    phrase: str
    end: str
    bulleted: bool = False
    negative: bool = False
    listed: bool = False

    @classmethod
    def all_of(cls, phrase: str, end: str, known: Collection[str]) -> Iterator[_Piece]:
        """One piece, or several where negatives follow without a separator: "cat -dog"."""
        if fold(phrase) in known:
            yield cls(phrase, end)
            return
        parts = _SIGN_INSIDE.split(phrase)
        for number, part in enumerate(parts, start=1):
            text, bulleted = part.lstrip(_BULLET + _POINT), part.startswith(_BULLET)
            rest = text.lstrip("".join(_SIGNS) + " ") if text.startswith(_SIGNS) else text
            last = number == len(parts)
            # Dashes may all be bullets; an exclamation mark is none.
            marked = bulleted or text.startswith("!")
            yield cls(rest, end if last else ",", marked, rest != text, listed=text != part)


class _Reader:
    """Reads a prompt piece by piece. known: the labels' names, folded."""

    def __init__(self, known: Collection[str]) -> None:
        self.wanted: list[Wanted] = []
        self._known = known
        self._label: str | None = None
        self._negative = False  # of all that is said of the label
        self._is_alone = False  # nothing was said yet of what becomes the label
        self._line_ended = False  # right behind the label's ":"
        self._listed = False  # the label's phrases stand below it, with bullets

    def take(self, piece: _Piece) -> None:
        """Read the next piece."""
        phrase, end = piece.phrase, piece.end
        if self._listed and not piece.listed:
            self._close()
        if phrase and end and end in _LABEL_END:
            self._close()
            negated = fold(phrase) in _NOT and fold(phrase) not in self._known
            self._label, self._negative = (None if negated else phrase), negated or piece.negative
            self._is_alone = True
            return
        if phrase:
            self._take_phrase(piece)
        if end == "\n" and (self._listed or (self._is_alone and not self._line_ended)):
            self._line_ended = True  # its phrases may stand in the next line
        elif not end or end in _LINE_END:
            self._close()

    def _take_phrase(self, piece: _Piece) -> None:
        if self._line_ended:
            # A label in a line of its own, not one of the last one's phrases.
            own_line = not (self._negative or piece.listed) and fold(piece.phrase) in self._known
            if own_line:
                self._close()
            self._listed = piece.listed and (self._label is not None or self._negative)
        self.wanted.append(self._said(piece.phrase, piece.negative))
        self._is_alone = self._is_alone and piece.negative and not self._negative
        self._line_ended = False

    def _said(self, phrase: str, negative: bool) -> Wanted:
        if negative or self._negative:
            return Wanted(phrase, negative=True)
        return Wanted(phrase, self._label) if self._label else self._underscored(phrase)

    def _close(self) -> None:
        if self._label and self._is_alone:  # "car:" and nothing behind it
            self.wanted.append(Wanted(self._label, negative=self._negative))
        self._label, self._negative, self._listed = None, False, False
        self._is_alone, self._line_ended = False, False

    def _underscored(self, phrase: str) -> Wanted:
        """Label Studio's own example backend writes "phrase_label": "brown cat_cats". A phrase
        without spaces is an identifier, such as "traffic_light".
        """
        start, _, label = phrase.rpartition("_")
        is_pair = " " in phrase and start.strip() and fold(label) in self._known
        if is_pair and fold(phrase) not in self._known:
            return Wanted(start.strip(), label.strip())
        return Wanted(phrase)


def _pieces(
    prompt: str, names: Collection[str], known: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Phrases, or nothing, and what each ends with."""
    lines = unicodedata.normalize("NFC", prompt).splitlines()
    marked = tuple(name for name in known if _LINE_MARK.match(f"{name} x"))
    # A tab stands between the cells of a table.
    cells = (_without_mark(line, marked).strip().replace("\t", ",") for line in lines)
    text = "\n".join(" ".join(line.split()) for line in cells)
    # Characters can become several when their case is evened out: "ß" is "ss".
    folded = text.casefold()
    place = [number for number, char in enumerate(text) for _ in char.casefold()]
    part = "|".join([*_with_separators(names, folded), f"[^{_ENDS}]"])
    for found in re.finditer(rf"[^\S\n]*((?:{part})*)([{_ENDS}]|\Z)", folded):
        start, stop = (place[at] if at < len(place) else len(text) for at in found.span(1))
        yield " ".join(text[start:stop].split()), found[2]


def _without_mark(line: str, marked: tuple[str, ...]) -> str:
    """The line with a sign in place of its bullet or number: "1. dog", "2) cat".

    marked: labels that begin like that, folded.
    """
    mark = _LINE_MARK.match(line)
    if mark is None or (marked and fold(line).startswith(marked)):
        return line
    return (_BULLET if (mark[1] or "").startswith(_DASHES) else _POINT) + line[mark.end() :]


def _with_separators(names: Collection[str], folded: str) -> Iterator[str]:
    """Patterns of those names in a prompt that must stay whole, the longest first. A plural "s" may
    follow, and spaces may be left out.
    """
    close = "".join(folded.split())
    odd = {tidy(name).casefold() for name in names if re.search(f"[{_ENDS}]", name)}
    there = (name for name in odd if "".join(name.split()) in close)
    # Literals: patterns with optional spaces take seconds to compile for hundreds of names.
    spelled = {each for name in there for each in _spaced(name) if each in folded}
    for name in sorted(spelled, key=len, reverse=True):
        before = r"(?<![^\W_])" if name[0].isalnum() else ""
        after = r"(?:e?s)?(?![^\W_])" if name[-1].isalnum() else ""
        yield before + re.escape(name) + after


def _spaced(name: str) -> tuple[str, str, str]:
    """A name as it is spelled, without the spaces at its separators, and without any."""
    tight = re.sub(rf"\s*([{_ENDS}])\s*", r"\1", name)
    return name, tight, "".join(name.split())
