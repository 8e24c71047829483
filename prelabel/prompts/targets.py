"""Searches for each picture, and the label that the boxes of each search get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from prelabel.labelstudio.labeling_config import ImageObject, LabelingConfig
from prelabel.labelstudio.labels import BoxControl, Label, LabelTarget
from prelabel.phrases.matching import Step
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.phrases.words import number_key
from prelabel.prompts.resolver import (
    PlannedPhrase,
    PlannedPrompt,
    Search,
    first_searches,
    label_searches,
    searches_of,
)
from prelabel.prompts.sources import PromptSources
from prelabel.settings import DetectionSettings
from prelabel.types import Target

Aim = tuple[str, Target | None]  # words, and the label that their boxes get
_Group = tuple[Mapping[str, LabelTarget], Sequence[PlannedPhrase]]


class PhraseTargets:
    """The searches that a prompt states, or that the labels state themselves.

    Phrases that are one to the model go to the first that has a label; a prompt's negatives to
    none. unreadable: labels that the model has no word of, as far as pictures were asked for.
    """

    def __init__(
        self,
        config: LabelingConfig,
        prompt: PlannedPrompt | None,
        sources: PromptSources,
        settings: DetectionSettings,
        vocabulary: Vocabulary,
    ) -> None:
        self.unreadable: dict[str, None] = {}
        self._config = config
        self._sources = sources
        self._settings = settings
        self._vocabulary = vocabulary
        self._made: dict[tuple[str, str, str | None], Target] = {}
        self._excluded = prompt.excluded if prompt else frozenset()
        phrases = prompt.phrases if prompt else ()
        self._negatives = dict(s for p in phrases if p.step == Step.NEGATIVE for s in p.searches)
        self._prompted = None if prompt is None or prompt.is_negative else _by_targets(phrases)
        self._pictures = {name for targets, _ in self._prompted or () for name in targets}
        self._left_out = {
            key: (words, None) for phrase in phrases for key, words in first_searches(phrase)
        }

    def concern(self, image: ImageObject) -> bool:
        """Return whether this picture has a label that is looked for."""
        if self._prompted is not None:
            return image.name in self._pictures
        return any(self._of_labels(image))

    def of(self, image: ImageObject) -> list[Aim]:
        """The searches for this picture; empty where a prompt's negatives leave none."""
        labelled: dict[str, Aim] = {}
        left_out: dict[str, Aim] = {}
        for target, searches in (
            self._of_labels(image) if self._prompted is None else self._of_prompt(image)
        ):
            made = self._target(target.control, target.label)
            for key, words in searches:
                if key not in self._negatives and _counts_more(made, labelled.get(key)):
                    labelled[key] = (words, made)
            if target.control.negatives or (target.label and target.label.negatives):
                left_out |= self._negatives_of(target)
        return list((self._left_out | left_out | labelled).values()) if labelled else []

    def _negatives_of(self, target: LabelTarget) -> dict[str, Aim]:
        """The `negative_values` of a control and a label."""
        names = target.control.negatives + (target.label.negatives if target.label else ())
        return {
            key if self._prompted is None else number_key(words): (words, None)
            for key, words in searches_of(names)
            if self._vocabulary.reads(words)
        }

    def _of_prompt(self, image: ImageObject) -> Iterator[tuple[LabelTarget, Sequence[Search]]]:
        for targets, phrases in self._prompted or ():
            if target := targets.get(image.name):
                searches = [s for p in phrases for s in p.searches_for(target)]
                yield target, [s for s in searches if self._reads(s)]

    def _of_labels(self, image: ImageObject) -> Iterator[tuple[LabelTarget, Sequence[Search]]]:
        for control in self._config.controls_of(image):
            for label in control.labels:
                if label.value in self._excluded:
                    continue
                if searches := [s for s in label_searches(label) if self._reads(s)]:
                    yield LabelTarget(control, label), searches
                else:
                    self.unreadable[label.value] = None

    def _reads(self, search: Search) -> bool:
        """Words that the model cannot read would cost their neighbours the whole task."""
        return self._vocabulary.reads(search[1])

    def _target(self, control: BoxControl, label: Label | None) -> Target:
        """Each is made once, however many phrases it has."""
        key = (control.from_name, control.to_name, label.value if label else None)
        if key not in self._made:
            own = label.score_threshold if label else None
            own = control.score_threshold if own is None else own
            min_score = self._sources.resolve(self._settings, own).box_threshold
            assert min_score is not None  # the settings always give one
            self._made[key] = Target(*key, min_score, control.rectangle_name)
        return self._made[key]


def _counts_more(target: Target, there: Aim | None) -> bool:
    """Return whether a search goes to this label: the first that states it, or the first label
    where it had none.
    """
    return there is None or bool(there[1] and there[1].label is None and target.label)


def _by_targets(phrases: Sequence[PlannedPhrase]) -> list[_Group]:
    """Phrases that follow each other in a prompt and belong to one label, together: there may be
    thousands of phrases, and of pictures.
    """
    groups = [list(group) for _, group in groupby(phrases, key=lambda each: id(each.targets))]
    return [(group[0].targets, group) for group in groups]
