"""The labeling config that a prompt means, and the plan of a picture with it.

The playground has no project. Its prompt, or its list of labels, is written as a labeling config,
and the picture is planned with that config as every task is. A project with the exported config
then gets the boxes that the page shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from prelabel.errors import PromptError
from prelabel.labelstudio.config_text import ConfigLabel, config_text
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import Task
from prelabel.phrases.inflection import singular_plural_key
from prelabel.phrases.marks import strip_marks_and_article
from prelabel.phrases.names import tidy
from prelabel.phrases.plain_words import to_words
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.prompts.messages import NOTHING_NAMED, ONLY_NEGATIVES
from prelabel.prompts.parser import ParsedPhrase, split_prompt
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import PromptRequest, TaskPlan, Thresholds

_PICTURE: Final = "playground"  # stands in the plan for the address of the picture


@dataclass(frozen=True, slots=True)
class PromptedConfig:
    """The labels that a prompt means.

    Attributes:
        prompt: The prompt, None without one.
        labels: The labels, in order.
        negatives: Phrases that the prompt leaves out, if the labels come from the prompt.
    """

    prompt: str | None
    labels: tuple[ConfigLabel, ...]
    negatives: tuple[str, ...] = ()

    @classmethod
    def of(cls, prompt: str, labels: Sequence[str] | None, max_chars: int) -> PromptedConfig:
        """Return the config of a prompt, of labels, or of both.

        Args:
            prompt: The prompt; may be empty if there are labels.
            labels: The labels; None for those that the prompt names.
            max_chars: The longest prompt that is accepted.

        Raises:
            PromptError: There is nothing to look for, or the prompt is too long.
        """
        text = prompt.strip() or None
        named = dict.fromkeys(label.strip() for label in labels or () if label.strip())
        if named:
            return cls(text, tuple(ConfigLabel(label) for label in named))
        phrases = split_prompt(text or "", max_chars)
        if not phrases:
            raise PromptError(NOTHING_NAMED)
        negatives = dict.fromkeys(each.phrase for each in phrases if each.negative)
        wanted = [each for each in phrases if not each.negative]
        if not wanted:
            raise PromptError(ONLY_NEGATIVES)
        return cls(text, tuple(_labels_of(wanted)), tuple(negatives))

    def text(self, thresholds: dict[str, float] | None = None, *, masks: bool = False) -> str:
        """Return the labeling config, with default values of thresholds and controls for masks."""
        return config_text(self.labels, self.negatives, thresholds, masks=masks)

    def plan(
        self, settings: AppSettings, vocabulary: Vocabulary, thresholds: Thresholds
    ) -> TaskPlan:
        """Plan a picture as POST /predict does for an annotator who typed the prompt.

        Raises:
            LabelingConfigError: There are too many labels.
            PromptError: The prompt and the labels leave nothing to look for.
        """
        config = parse_labeling_config(self.text(), settings.prompts.max_labels, masks=False)
        given = PromptRequest(self.prompt, thresholds.box, thresholds.text)
        sources = PromptSources(given, interactive=self.prompt is not None)
        plan = plan_task(Task(data={"image": _PICTURE}), config, sources, settings, vocabulary)
        return replace(plan, looks=tuple(replace(look, uri="") for look in plan.looks))


def _labels_of(phrases: Sequence[ParsedPhrase]) -> list[ConfigLabel]:
    """Return the labels of a prompt's phrases, each with the phrases that it is named for.

    A phrase without a label is a label itself. Singular and plural are one label.
    """
    labels: dict[str, ConfigLabel] = {}
    for each in phrases:
        value = tidy(each.label) if each.label else strip_marks_and_article(each.phrase)
        key = singular_plural_key(to_words(value))
        known = labels.get(key, ConfigLabel(value))
        labels[key] = replace(known, phrases=(*known.phrases, each.phrase))
    return [_without_own_name(label) for label in labels.values()]


def _without_own_name(label: ConfigLabel) -> ConfigLabel:
    """Return the label without its phrases, if they say no more than its name."""
    name = singular_plural_key(to_words(label.value))
    keys = {singular_plural_key(to_words(strip_marks_and_article(p))) for p in label.phrases}
    return ConfigLabel(label.value) if keys == {name} else label
