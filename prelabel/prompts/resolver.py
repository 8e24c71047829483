"""Parsed phrases -> phrases with their labels in one labeling config.

In: the prompt's text, the labeling config, the settings and the model's vocabulary. Out: a
`ResolvedPrompt`: for each phrase its searches, its label on each picture, and the step that found
the label. `planner` decides which prompt is resolved; `targets` turns the result into the searches
of a picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prelabel.errors import PromptError
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.labels import LabelMatch, LabelTarget
from prelabel.phrases.marks import strip_marks, strip_marks_and_article
from prelabel.phrases.matching import Step
from prelabel.phrases.normal_forms import normal_form
from prelabel.phrases.plain_words import to_words
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.prompts.messages import unknown_phrases_message, unreadable_message
from prelabel.prompts.parser import ParsedPhrase, split_prompt
from prelabel.prompts.searches import Search, prompt_searches
from prelabel.settings import PromptSettings
from prelabel.types import PhraseMatch

_MOST_MATCHES = 200  # in an answer, because a prompt can have thousands of phrases
_MOST_CONJUNCTS = 8  # labels that are joined by "and"
_CONJUNCTION = re.compile(r"\s+(?:and|or|&)\s+", re.IGNORECASE)
_EXACT_STEPS = {Step.SPELLED, Step.ALIAS, Step.PREDICTED_VALUE, Step.CASE, Step.MARKS}


@dataclass(frozen=True, slots=True)
class ResolvedPhrase:
    """One phrase of a prompt with its label.

    Attributes:
        phrase: The phrase as it was typed.
        own_searches: The searches for the phrase's own words; see `searches_for`.
        match: The label of its boxes on each picture. It is empty if the boxes are dropped.
    """

    phrase: str
    own_searches: tuple[Search, ...]
    match: LabelMatch

    @property
    def targets(self) -> Mapping[str, LabelTarget]:
        """The labels of its boxes, by the name of the Image tag."""
        return self.match.targets

    @property
    def step(self) -> Step:
        """The step that found its label, or the reason why it has none."""
        return self.match.step

    @property
    def first_searches(self) -> tuple[Search, ...]:
        """The searches on the first picture that has its label."""
        target = next(iter(self.targets.values()), None)
        return self.searches_for(target) if target else self.own_searches

    def searches_for(self, target: LabelTarget) -> tuple[Search, ...]:
        """Return the searches for this phrase where `target` is its label.

        The name of a label stands for the label's `predicted_values`. A compound that is typed
        without its spaces is searched for in the label's spelling.
        """
        # The label was not matched by its name: the phrase describes its objects.
        if target.label is None or not target.name:
            return self.own_searches
        if target.name not in target.label.phrases:
            return prompt_searches(target.label.phrases)
        if self.step == Step.JOINED and target.name.count(" ") > self.phrase.count(" "):
            return prompt_searches((target.name,))
        return self.own_searches

    def is_readable(self, vocabulary: Vocabulary) -> bool:
        """Return True if any of the phrase's searches has a word in the model's vocabulary."""
        searches = [s for t in self.match.distinct_targets for s in self.searches_for(t)]
        return any(vocabulary.reads(search.words) for search in searches or self.own_searches)


@dataclass(frozen=True, slots=True)
class ResolvedPrompt:
    """A prompt, resolved against one labeling config.

    Attributes:
        text: The prompt.
        phrases: The phrases that the model can read.
        unreadable_phrases: The phrases that have no word in the model's vocabulary.
        unknown: The phrases, or names of labels in the prompt, that match no label.
        excluded_labels: Values of the labels that the prompt's negatives name.
    """

    text: str
    phrases: tuple[ResolvedPhrase, ...]
    unreadable_phrases: tuple[ResolvedPhrase, ...] = ()
    unknown: tuple[str, ...] = ()
    excluded_labels: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_useful(self) -> bool:
        """True if any phrase has a label, or if all phrases are negatives."""
        return bool(self.phrases) and (self.is_negative or any(p.targets for p in self.phrases))

    @property
    def is_negative(self) -> bool:
        """True if all phrases are negatives. The labels themselves are searched for then."""
        return bool(self.phrases) and all(p.step == Step.NEGATIVE for p in self.phrases)

    @property
    def has_negatives(self) -> bool:
        """True if any phrase is a negative."""
        return any(phrase.step == Step.NEGATIVE for phrase in self.phrases)

    @property
    def matches(self) -> tuple[PhraseMatch, ...]:
        """The label and the step of each phrase, for the answer."""
        unreadable = (
            PhraseMatch(p.phrase, (), None, Step.UNREADABLE) for p in self.unreadable_phrases
        )
        return (*map(_phrase_match, self.phrases), *unreadable)[:_MOST_MATCHES]

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The distinct phrases that have no word in the model's vocabulary, as they were typed."""
        return tuple(dict.fromkeys(phrase.phrase for phrase in self.unreadable_phrases))


def resolve_prompt(
    text: str,
    config: LabelingConfig,
    settings: PromptSettings,
    vocabulary: Vocabulary,
    *,
    typed: bool,
    is_prompt: bool = False,
) -> ResolvedPrompt:
    """Parse a prompt and resolve its phrases.

    Args:
        text: The prompt.
        config: The labeling config, filled in with the task's data.
        settings: `unknown_phrases` and `max_chars` apply.
        vocabulary: The words that the model can read.
        typed: True if an annotator has just typed the prompt and waits for its boxes.
        is_prompt: True if the text is a prompt for sure, as a typed one is. An older text may be a
            comment.

    Raises:
        PromptError: The prompt is too long.
    """
    unknown_phrases = settings.unknown_phrases
    if unknown_phrases == "unlabelled" and not typed:
        # Label Studio may refuse a whole batch of predictions for one box without a label.
        unknown_phrases = "drop"
    resolver = _PhraseResolver(config, unknown_phrases, is_prompt=typed or is_prompt)
    readable: list[ResolvedPhrase] = []
    unreadable: list[ResolvedPhrase] = []
    # One unreadable phrase must not fail the others, so that both kinds are returned.
    for parsed in split_prompt(text, settings.max_chars, config.names.all):
        for phrase in resolver.resolve(parsed):
            (readable if phrase.is_readable(vocabulary) else unreadable).append(phrase)
    return ResolvedPrompt(
        text,
        tuple(readable),
        tuple(unreadable),
        tuple(dict.fromkeys(resolver.unknown)),
        frozenset(resolver.excluded_labels),
    )


def check_known(prompt: ResolvedPrompt, config: LabelingConfig, settings: PromptSettings) -> None:
    """Reject a prompt whose phrases match no label.

    Raises:
        PromptError: No phrase has a label; or, with `unknown_phrases: reject`, any phrase has none.
            The message names the most similar labels.
    """
    has_no_label = prompt.phrases and not prompt.is_useful
    if prompt.unknown and (settings.unknown_phrases == "reject" or has_no_label):
        raise PromptError(unknown_phrases_message(prompt.unknown, config.names.values))


def check_readable(prompt: ResolvedPrompt) -> None:
    """Raise PromptError for a prompt that has no word in the model's vocabulary."""
    if prompt.unreadable and not prompt.phrases:
        raise PromptError(unreadable_message(prompt.unreadable))


class _PhraseResolver:
    """Resolves the phrases of one prompt, one after the other.

    It creates one LabelMatch for each name, because `targets` groups consecutive phrases by the
    identity of their matches.
    """

    def __init__(self, config: LabelingConfig, unknown_phrases: str, *, is_prompt: bool) -> None:
        self.unknown: list[str] = []
        self.excluded_labels: set[str] = set()
        self._names = config.names
        self._unknown_phrases = unknown_phrases
        # An older text in a field of another name may be a comment, not a prompt.
        is_prompt = is_prompt or "prompt" in config.prompt_controls.prompt.lower()
        self._has_only_label = is_prompt and config.names.has_one_label
        self._matches: dict[str, LabelMatch] = {}
        self._explicit_matches: dict[str, LabelMatch] = {}
        self._fallbacks: dict[Step, LabelMatch] = {}

    def resolve(self, parsed: ParsedPhrase) -> Iterator[ResolvedPhrase]:
        """Yield the phrase, or the labels that "and" joins in it."""
        if parsed.negative:
            yield self._resolve_negative(parsed.phrase)
            return
        match = self._match(parsed.label or parsed.phrase)
        if parsed.label and match.targets:
            match = self._explicit_match(parsed.label, match)
        elif parsed.label:  # "find: cat, dog", where "find" is not a label
            match = self._match(parsed.phrase)
        elif not match.targets and (conjuncts := self._conjuncts(parsed)):
            for conjunct in conjuncts:
                yield _resolved(conjunct, self._match(conjunct))
            return
        yield _resolved(parsed.phrase, match if match.targets else self._fallback(parsed))

    def _resolve_negative(self, phrase: str) -> ResolvedPhrase:
        """A negative that names a label excludes the label with its `predicted_values`."""
        resolved = _resolved(phrase, self._match(phrase))
        self.excluded_labels.update(t.label.value for t in resolved.targets.values() if t.label)
        return ResolvedPhrase(phrase, resolved.first_searches, LabelMatch({}, Step.NEGATIVE))

    def _match(self, name: str) -> LabelMatch:
        if name not in self._matches:
            self._matches[name] = self._names.find(name)
        return self._matches[name]

    def _explicit_match(self, label: str, match: LabelMatch) -> LabelMatch:
        """Return a match without the label's name, so that the phrase's own words are searched."""
        if label not in self._explicit_matches:
            targets = {
                image: LabelTarget(target.control, target.label)
                for image, target in match.targets.items()
            }
            self._explicit_matches[label] = LabelMatch(targets, Step.NAMED_IN_PROMPT)
        return self._explicit_matches[label]

    def _conjuncts(self, parsed: ParsedPhrase) -> Sequence[str]:
        """Split "dog and cat" if each part is a label; else return nothing."""
        parts = _CONJUNCTION.split(parsed.phrase)
        if parsed.label or not 1 < len(parts) <= _MOST_CONJUNCTS:
            return ()
        return parts if all(self._match(part).targets for part in parts) else ()

    def _fallback(self, parsed: ParsedPhrase) -> LabelMatch:
        """Return the match of a phrase that matches no label, as the settings demand."""
        if self._has_only_label:
            return self._fallback_for(Step.ONLY_LABEL)
        if self._unknown_phrases == "first_label":
            return self._fallback_for(Step.FIRST_LABEL)
        self.unknown.append(parsed.label or parsed.phrase)
        unlabelled = self._unknown_phrases == "unlabelled"
        return self._fallback_for(Step.UNLABELLED if unlabelled else Step.LEFT_OUT)

    def _fallback_for(self, step: Step) -> LabelMatch:
        if step not in self._fallbacks:
            if step == Step.LEFT_OUT:
                match = LabelMatch({}, step)
            elif step == Step.UNLABELLED:
                match = self._names.unlabelled()
            else:
                match = self._names.first_labels(step)
            self._fallbacks[step] = match
        return self._fallbacks[step]


def _resolved(phrase: str, match: LabelMatch) -> ResolvedPhrase:
    if match.step in _EXACT_STEPS:
        words = to_words(phrase)
    elif match.distinct_targets and _shares_first_word(phrase, match.distinct_targets[0].name):
        words = to_words(strip_marks(phrase))
    else:
        words = to_words(strip_marks_and_article(phrase))
    return ResolvedPhrase(phrase, prompt_searches((words,)), match)


def _shares_first_word(phrase: str, name: str) -> bool:
    """Return True if the phrase's first word belongs to the name: "OR gates" of "OR gate"."""
    first, *_ = normal_form(phrase).split() or [""]
    return normal_form(name).startswith(f"{first} ")


def _phrase_match(phrase: ResolvedPhrase) -> PhraseMatch:
    target = next(iter(phrase.targets.values()), None)
    label = target.label.value if target and target.label else None
    searched = tuple(search.words for search in phrase.first_searches)
    return PhraseMatch(phrase.phrase, searched, label, phrase.step)
