"""Where prompts and thresholds come from, strongest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.protocol import Context, Task, asked_in, boxes_in
from prelabel.prompts.parser import what_applies
from prelabel.settings import DetectionSettings
from prelabel.types import PresentRegion, ProjectPrompts, PromptRequest

_MOST_DRAFTS = 20  # of one task; each is another annotator's
_NOTHING = PromptRequest()


@dataclass(frozen=True, slots=True)
class PromptSources:
    """Prompts and thresholds by their source, strongest first.

    drafts: the newest first; project: the extra parameters of the project's model; interactive: an
    annotator is waiting; present: the boxes that the annotation has.
    """

    context: PromptRequest
    drafts: tuple[PromptRequest, ...] = ()
    task: PromptRequest = _NOTHING
    remembered: PromptRequest = _NOTHING
    project: PromptRequest = _NOTHING
    config: PromptRequest = _NOTHING
    interactive: bool = False
    present: tuple[PresentRegion, ...] = ()

    @classmethod
    def of(
        cls, task: Task, context: Context | None, recalled: ProjectPrompts, config: LabelingConfig
    ) -> PromptSources:
        """Collect them from a request."""
        drafts = sorted(task.drafts, key=lambda draft: draft.updated_at or "", reverse=True)
        newest = drafts[:_MOST_DRAFTS]
        entries = context.result if context else ()
        return cls(
            asked_in(entries, config.ask_controls),
            tuple(asked_in(draft.result, config.ask_controls, strict=False) for draft in newest),
            PromptRequest(prompt=config.prompt_of(task.data)),
            recalled.submitted,
            recalled.project,
            config.thresholds,
            interactive=context is not None,
            present=boxes_in(entries),
        )

    def older_prompts(self) -> Iterator[str]:
        """Prompts that were not typed just now, strongest first."""
        for asked in (*self.drafts, self.task, self.remembered, self.project):
            if asked.prompt is not None:
                yield asked.prompt

    def resolve(
        self, settings: DetectionSettings, score_threshold: float | None = None
    ) -> PromptRequest:
        """The thresholds that apply; both are given. score_threshold: that of the label or its
        control tag in the labeling config.
        """
        drafts = PromptRequest()
        for draft in self.drafts:
            drafts = drafts.or_else(draft)
        return what_applies(
            context=self.context,
            drafts=drafts,
            task=self.task,
            remembered=self.remembered,
            project=self.project,
            config=PromptRequest(box_threshold=score_threshold).or_else(self.config),
            settings=PromptRequest(None, settings.box_threshold, settings.text_threshold),
        )
