"""A prompt, read with a labeling config in hand: what to look for, and which label it is for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from prelabel.errors import PromptError
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.labels import Label, LabelMatch, LabelTarget
from prelabel.phrases.captions import has_room_for, normalise_phrase
from prelabel.phrases.matching import Step, nearest
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.phrases.words import normal_form, number_key, searched_words, to_words, without_marks
from prelabel.prompts.parser import Wanted, split_prompt
from prelabel.settings import PromptSettings
from prelabel.types import PhraseMatch

_LAST_SIGN = "\u2bff"  # behind it, what is no letter is a picture, or a sign in its stead
_MOST_NAMES_SHOWN = 8
_MOST_MATCHES = 200  # that an answer says
_MOST_JOINED = 8  # labels that are joined by "and"
_CONJUNCTION = re.compile(r"\s+(?:and|or|&)\s+", re.IGNORECASE)
_EXACT = {Step.SPELLED, Step.ALIAS, Step.PREDICTED_VALUE, Step.CASE, Step.MARKS}

Search = tuple[str, str]  # the key by which phrases are told apart, and the words


@dataclass(frozen=True, slots=True)
class PlannedPhrase:
    """One phrase of a prompt. match: the label of its boxes; of no picture where they are left out.
    searches: what the model is asked for, where the label says nothing else.
    """

    phrase: str
    searches: tuple[Search, ...]
    match: LabelMatch

    @property
    def targets(self) -> Mapping[str, LabelTarget]:
        """Where its boxes go, by the name of the picture."""
        return self.match.targets

    @property
    def step(self) -> Step:
        """The step that found its label, or the reason why it has none."""
        return self.match.step

    def searches_for(self, target: LabelTarget) -> tuple[Search, ...]:
        """The searches for this phrase where it means this label.

        A label's own name stands for what is looked for without a prompt, its `predicted_values`.
        A name that is written together is looked for as the label has it.
        """
        if target.label is None or not target.name:
            return self.searches
        if target.name not in target.label.phrases:
            return _prompt_searches(target.label.phrases)
        if self.step == Step.TOGETHER and target.name.count(" ") > self.phrase.count(" "):
            return _prompt_searches((target.name,))
        return self.searches


@dataclass(frozen=True, slots=True)
class PlannedPrompt:
    """A prompt as a labeling config lets it be read.

    phrases: those that can be looked for; unread: those that the model has no word of; unknown:
    phrases, or names of labels in the prompt, that match no label; excluded: values of the labels
    that negatives name.
    """

    text: str
    phrases: tuple[PlannedPhrase, ...]
    unread: tuple[PlannedPhrase, ...] = ()
    unknown: tuple[str, ...] = ()
    excluded: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_useful(self) -> bool:
        """Whether any phrase has a label, or all are negatives."""
        return bool(self.phrases) and (self.is_negative or any(p.targets for p in self.phrases))

    @property
    def is_negative(self) -> bool:
        """Whether all phrases are negatives: the labels are looked for then."""
        return bool(self.phrases) and all(p.step == Step.NEGATIVE for p in self.phrases)

    @property
    def matches(self) -> tuple[PhraseMatch, ...]:
        """The label and the step of each phrase, for the answer."""
        unread = (PhraseMatch(p.phrase, (), None, Step.UNREADABLE) for p in self.unread)
        return (*map(_match, self.phrases), *unread)[:_MOST_MATCHES]

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Phrases that the model has no word of, as they were typed."""
        return tuple(dict.fromkeys(phrase.phrase for phrase in self.unread))

    @property
    def has_negatives(self) -> bool:
        """Whether any phrase is a negative."""
        return any(phrase.step == Step.NEGATIVE for phrase in self.phrases)


def read_prompt(
    text: str,
    config: LabelingConfig,
    settings: PromptSettings,
    vocabulary: Vocabulary,
    *,
    typed: bool,
) -> PlannedPrompt:
    """Read a prompt. typed: just now, so that an annotator waits for its boxes.

    Raises PromptError for one that is too long.
    """
    reader = _Reader(config, "drop" if _drops(settings, typed) else settings.unknown_phrases, typed)
    wanted = split_prompt(text, settings.max_chars, config.names.all)
    readable: list[PlannedPhrase] = []
    unread: list[PlannedPhrase] = []
    for each in wanted:
        for phrase in reader.read(each):
            (readable if _is_readable(phrase, vocabulary) else unread).append(phrase)
    unknown = tuple(dict.fromkeys(reader.unknown))
    return PlannedPrompt(text, tuple(readable), tuple(unread), unknown, frozenset(reader.excluded))


def _drops(settings: PromptSettings, typed: bool) -> bool:
    """Boxes without a label are for an annotator alone: Label Studio may refuse a whole batch of
    predictions for one of them.
    """
    return settings.unknown_phrases == "unlabelled" and not typed


class _Reader:
    """Finds the labels of phrases, one after the other."""

    def __init__(self, config: LabelingConfig, unknown_phrases: str, typed: bool) -> None:
        self.unknown: list[str] = []
        self.excluded: set[str] = set()
        self._names = config.names
        self._unknown_phrases = unknown_phrases
        # An old text in a field of another name may be a comment.
        is_prompt = typed or "prompt" in config.ask_controls.prompt.lower()
        self._one_label = is_prompt and config.names.has_one_label
        # One for all phrases of a label: the planner goes by their identity.
        self._found: dict[str, LabelMatch] = {}
        self._said_labels: dict[str, LabelMatch] = {}
        self._for_unknown: dict[Step, LabelMatch] = {}

    def read(self, wanted: Wanted) -> Iterator[PlannedPhrase]:
        """The phrase, or several that are joined by "and"."""
        if wanted.negative:
            yield self._negative(wanted.phrase)
            return
        match = self._named(wanted.label or wanted.phrase)
        if wanted.label and match.targets:
            match = self._said(wanted.label, match)
        elif wanted.label:  # "find: cat, dog"
            match = self._named(wanted.phrase)
        elif not match.targets and (parts := self._joined(wanted)):
            for part in parts:
                yield _planned(part, self._named(part))
            return
        yield _planned(wanted.phrase, match if match.targets else self._of_unknown(wanted))

    def _negative(self, phrase: str) -> PlannedPhrase:
        """A negative; where it names a label, the label's `predicted_values` are left out."""
        planned = _planned(phrase, self._named(phrase))
        self.excluded.update(t.label.value for t in planned.targets.values() if t.label)
        return PlannedPhrase(phrase, first_searches(planned), LabelMatch({}, Step.NEGATIVE))

    def _named(self, name: str) -> LabelMatch:
        if name not in self._found:
            self._found[name] = self._names.called(name)
        return self._found[name]

    def _said(self, label: str, match: LabelMatch) -> LabelMatch:
        """The label that the prompt names for the phrase: what it is called itself is no matter."""
        if label not in self._said_labels:
            targets = {
                picture: LabelTarget(target.control, target.label)
                for picture, target in match.targets.items()
            }
            self._said_labels[label] = LabelMatch(targets, Step.SAID)
        return self._said_labels[label]

    def _joined(self, wanted: Wanted) -> Sequence[str]:
        """The labels of "dog and cat"; none where one of them is no label."""
        parts = _CONJUNCTION.split(wanted.phrase)
        if wanted.label or not 1 < len(parts) <= _MOST_JOINED:
            return ()
        return parts if all(self._named(part).targets for part in parts) else ()

    def _of_unknown(self, wanted: Wanted) -> LabelMatch:
        if self._one_label:
            return self._kept(Step.ONLY_LABEL)
        if self._unknown_phrases == "first_label":
            return self._kept(Step.FIRST_LABEL)
        self.unknown.append(wanted.label or wanted.phrase)
        return self._kept(
            Step.UNLABELLED if self._unknown_phrases == "unlabelled" else Step.LEFT_OUT
        )

    def _kept(self, step: Step) -> LabelMatch:
        if step not in self._for_unknown:
            if step == Step.LEFT_OUT:
                match = LabelMatch({}, step)
            elif step == Step.UNLABELLED:
                match = self._names.unlabelled()
            else:
                match = self._names.first(step)
            self._for_unknown[step] = match
        return self._for_unknown[step]


def _planned(phrase: str, match: LabelMatch) -> PlannedPhrase:
    if match.step in _EXACT:
        words = to_words(phrase)
    elif match.named and _begin_alike(phrase, match.named[0].name):
        words = to_words(without_marks(phrase))
    else:
        words = searched_words(phrase)
    return PlannedPhrase(phrase, _prompt_searches((words,)), match)


def _begin_alike(phrase: str, name: str) -> bool:
    """Return whether the first word belongs to the name: "OR gates" of the label "OR gate"."""
    first, *_ = normal_form(phrase).split() or [""]
    return normal_form(name).startswith(f"{first} ")


def _is_readable(planned: PlannedPhrase, vocabulary: Vocabulary) -> bool:
    searches = [s for target in planned.match.named for s in planned.searches_for(target)]
    return any(vocabulary.reads(words) for _, words in searches or planned.searches)


def _match(planned: PlannedPhrase) -> PhraseMatch:
    target = next(iter(planned.targets.values()), None)
    label = target.label.value if target and target.label else None
    searched = tuple(words for _, words in first_searches(planned))
    return PhraseMatch(planned.phrase, searched, label, planned.step)


def first_searches(planned: PlannedPhrase) -> tuple[Search, ...]:
    """The searches of a phrase on the first picture that has its label."""
    target = next(iter(planned.targets.values()), None)
    return planned.searches_for(target) if target else planned.searches


@lru_cache(maxsize=4096)
def _prompt_searches(phrases: tuple[str, ...]) -> tuple[Search, ...]:
    """The same for a prompt, where the singular and the plural of a word are one: they would take
    each other's objects.
    """
    return tuple((number_key(words), words) for _, words in searches_of(phrases))


@lru_cache(maxsize=4096)
def searches_of(phrases: tuple[str, ...]) -> tuple[Search, ...]:
    """The searches for phrases of a labeling config."""
    words = [to_words(phrase) for phrase in phrases]
    return tuple((normalise_phrase(each), each) for each in words)


def label_searches(label: Label) -> tuple[Search, ...]:
    """The searches for a label without a prompt."""
    return searches_of(label.phrases)


def check_known(prompt: PlannedPrompt, config: LabelingConfig, settings: PromptSettings) -> None:
    """Raise PromptError, which names the labels that come nearest, for a prompt that says nothing
    that has a label, or, with `unknown_phrases: reject`, anything that has none.
    """
    wants_some = prompt.phrases and not prompt.is_useful
    if prompt.unknown and (settings.unknown_phrases == "reject" or wants_some):
        raise PromptError(_unknown_sentence(prompt.unknown, config.names.values))


def unreadable_labels(config: LabelingConfig, vocabulary: Vocabulary) -> list[str]:
    """Labels of which the model has no word, and that it can find by none of its
    `predicted_values`.
    """
    labels = {label.value: label for control in config.controls for label in control.labels}
    return [
        value
        for value, label in labels.items()
        if not any(vocabulary.reads(words) for _, words in label_searches(label))
    ]


def check_readable(prompt: PlannedPrompt) -> None:
    """Raise PromptError for a prompt of nothing but words that the model does not have."""
    if prompt.unreadable and not prompt.phrases:
        raise PromptError(unreadable_sentence(prompt.unreadable))


def _unknown_sentence(unknown: Sequence[str], labels: Sequence[str]) -> str:
    is_none = "is no label" if len(unknown) == 1 else "are no labels"
    near = dict.fromkeys(name for each in unknown[:3] for name in nearest(each, labels))
    nearest_are = f" The nearest are {listed(list(near))}." if near else ""
    example = f"{next(iter(near), labels[0] if labels else 'label')}: {unknown[0]}"
    return (
        f"The prompt's {listed(unknown)} {is_none} of this project, which has {listed(labels)}."
        f'{nearest_are} Use its labels in the prompt, say which one is meant ("{example[:80]}"), '
        "or add labels to the project."
    )


def unreadable_sentence(names: Collection[str]) -> str:
    """The sentence about labels or phrases that the model has no word of, or no room for."""
    if not any(_is_more_than_marks(name) for name in names):
        return "There is no word to look for. Use plain words as labels or prompt."
    short = [name for name in names if has_room_for(name)]
    if not short:
        return (
            f"{listed(list(names))} is longer than the model can read. Shorten it, or split it "
            'with ".".'
        )
    return (
        f"The model has no word of {listed(short)} in its vocabulary. Say what to look for in "
        f'words that it has, in the prompt or in the labeling config: <Label value="{short[0][:60]}'
        '" predicted_values="cat"/>.'
    )


def _is_more_than_marks(name: str) -> bool:
    return any(unicodedata.category(char)[0] in "LMN" or char > _LAST_SIGN for char in name)


def listed(names: Sequence[str]) -> str:
    """Names for a sentence, the first few of many."""
    shown = ", ".join(repr(name[:60]) for name in names[:_MOST_NAMES_SHOWN])
    return (
        shown
        if len(names) <= _MOST_NAMES_SHOWN
        else f"{shown} and {len(names) - _MOST_NAMES_SHOWN} more"
    )
