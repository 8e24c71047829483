"""Resolved prompt, or the labels alone -> the searches of each picture, with their targets.

In: the labeling config, the resolved prompt if there is one, the thresholds' sources, the settings
and the model's vocabulary. Out: for each Image tag the words that the model searches for, each
with the label that its boxes get, or None if they are dropped. `planner` makes look plans of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from prelabel.labelstudio.labeling_config import ImageObject, LabelingConfig
from prelabel.labelstudio.labels import Label, LabelTarget, RegionControl
from prelabel.phrases.inflection import singular_plural_key
from prelabel.phrases.matching import Step
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.prompts.mask_targets import mask_targets
from prelabel.prompts.resolver import ResolvedPhrase, ResolvedPrompt
from prelabel.prompts.searches import Search, config_searches, label_searches
from prelabel.prompts.sources import PromptSources
from prelabel.settings import DetectionSettings
from prelabel.types import MaskTarget, Target

PhraseTarget = tuple[str, Target | None]  # the words of a search, and the target of its boxes
_PhraseGroup = tuple[Mapping[str, LabelTarget], Sequence[ResolvedPhrase]]


class PhraseTargets:
    """The searches that a prompt states, or those of the labels if there is no prompt.

    Searches with one key belong to the first phrase that has a label. The prompt's negatives are
    searched for, and their boxes dropped.

    Attributes:
        unreadable: Labels that have no word in the model's vocabulary, of the pictures that
            `for_image` and `has_searches` were called for. A dict keeps their order.
    """

    def __init__(
        self,
        config: LabelingConfig,
        prompt: ResolvedPrompt | None,
        sources: PromptSources,
        settings: DetectionSettings,
        vocabulary: Vocabulary,
    ) -> None:
        self.unreadable: dict[str, None] = {}
        self._config = config
        self._sources = sources
        self._settings = settings
        self._vocabulary = vocabulary
        self._targets: dict[tuple[str, str, str | None], Target] = {}
        self._names: dict[tuple[str, str], Mapping[str, Label]] = {}  # by control tag
        phrases = prompt.phrases if prompt else ()
        self._excluded_labels = prompt.excluded_labels if prompt else frozenset()
        self._negative_keys = {
            search.key for p in phrases if p.step == Step.NEGATIVE for search in p.own_searches
        }
        has_own_phrases = prompt is not None and not prompt.is_negative
        self._prompted = _group_by_targets(phrases) if has_own_phrases else None
        self._prompted_images = {name for targets, _ in self._prompted or () for name in targets}
        # A phrase without a label on a picture is searched for there, too, and its boxes dropped.
        self._dropped: dict[str, PhraseTarget] = {
            search.key: (search.words, None) for p in phrases for search in p.first_searches
        }

    def has_searches(self, image: ImageObject) -> bool:
        """Return True if any label of this picture is searched for."""
        if self._prompted is not None:
            return image.name in self._prompted_images
        return any(self._label_searches(image))

    def for_image(self, image: ImageObject) -> list[PhraseTarget]:
        """Return the searches for this picture; empty if negatives exclude all of its labels."""
        labelled: dict[str, PhraseTarget] = {}
        dropped: dict[str, PhraseTarget] = {}
        prompted = self._prompted is not None
        for label_target, searches in (
            self._prompt_searches(image) if prompted else self._label_searches(image)
        ):
            target = self._target(label_target.control, label_target.label)
            for key, words in searches:
                if key not in self._negative_keys and _has_precedence(target, labelled.get(key)):
                    labelled[key] = (words, target)
            label = label_target.label
            if label_target.control.negatives or (label and label.negatives):
                dropped |= self._config_negatives(label_target)
        # A labelled search replaces the dropped search of its key, at the same place in the order.
        return list((self._dropped | dropped | labelled).values()) if labelled else []

    def _config_negatives(self, target: LabelTarget) -> dict[str, PhraseTarget]:
        """Return the searches for the `negative_values` of a control tag and a label."""
        names = target.control.negatives + (target.label.negatives if target.label else ())
        return {
            key if self._prompted is None else singular_plural_key(words): (words, None)
            for key, words in config_searches(names)
            if self._vocabulary.reads(words)
        }

    def _prompt_searches(self, image: ImageObject) -> Iterator[tuple[LabelTarget, list[Search]]]:
        for targets, phrases in self._prompted or ():
            if target := targets.get(image.name):
                yield (
                    target,
                    [
                        search
                        for phrase in phrases
                        for search in phrase.searches_for(target)
                        if self._vocabulary.reads(search.words)
                    ],
                )

    def _label_searches(self, image: ImageObject) -> Iterator[tuple[LabelTarget, list[Search]]]:
        for control in self._config.controls_of(image):
            for label in control.labels:
                if label.value in self._excluded_labels:
                    continue
                # One phrase without a readable word would fail the whole caption.
                readable = [s for s in label_searches(label) if self._vocabulary.reads(s.words)]
                if readable:
                    yield LabelTarget(control, label), readable
                else:
                    self.unreadable[label.value] = None

    def _target(self, control: RegionControl, label: Label | None) -> Target:
        """Return the target of a label; the same object for all of its phrases."""
        key = (control.from_name, control.to_name, label.value if label else None)
        if key not in self._targets:
            self._targets[key] = Target(
                *key,
                min_score=self._min_score(control, label),
                rectangle_name=control.shapes.get("rectangle"),
                draws_box=control.draws_boxes,
                masks=self._mask_targets(control, label),
            )
        return self._targets[key]

    def _mask_targets(self, control: RegionControl, label: Label | None) -> tuple[MaskTarget, ...]:
        """Return the targets of the masks of a label, in all control tags of its picture.

        Boxes without a label get no masks, unless the control tag draws nothing else: an annotator
        would have to give both of them the same label.
        """
        if label is None:
            labelled = [] if control.draws_boxes else [(control, label)]
            return mask_targets(labelled, self._mask_score)
        own_labels = (
            (own, own_label)
            for own in self._config.by_image[control.to_name]
            if (own_label := self._label_of(own, label))
        )
        return mask_targets(own_labels, self._mask_score)

    def _label_of(self, control: RegionControl, label: Label) -> Label | None:
        """Return a control tag's own label for the same thing as another tag's label."""
        key = (control.from_name, control.to_name)
        names = self._names.get(key)
        if names is None:
            names = self._names[key] = control.labels_by_name()
        return names.get(label.value) or names.get(label.word)

    def _min_score(self, control: RegionControl, label: Label | None) -> float:
        """Return the box threshold of a label: its own, its control tag's, or the request's."""
        return self._sources.thresholds(self._settings, _own_threshold(control, label)).box

    def _mask_score(self, control: RegionControl, label: Label | None) -> float:
        """Return the lowest score of a box whose mask a control tag draws.

        Without a threshold of its own, the tag draws the mask of every box.
        """
        own = _own_threshold(control, label)
        return 0.0 if own is None else self._sources.thresholds(self._settings, own).box


def _own_threshold(control: RegionControl, label: Label | None) -> float | None:
    own = label.score_threshold if label else None
    return control.score_threshold if own is None else own


def _has_precedence(target: Target, present: PhraseTarget | None) -> bool:
    """Return True if a search goes to `target` instead of its present target.

    The first target counts; the first one with a label replaces one without.
    """
    return present is None or bool(present[1] and present[1].label is None and target.label)


def _group_by_targets(phrases: Sequence[ResolvedPhrase]) -> list[_PhraseGroup]:
    """Group consecutive phrases of one label.

    A prompt can have thousands of phrases and a task a thousand pictures; each picture then looks
    up one target per group.
    """
    groups = [list(group) for _, group in groupby(phrases, key=lambda each: id(each.targets))]
    return [(group[0].targets, group) for group in groups]
