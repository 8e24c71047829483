"""Proposed thresholds -> the project's labeling config, after the change was shown."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import typer
from rich.console import Console

from prelabel.cli.terminal import print_line
from prelabel.errors import LabelStudioError
from prelabel.labelstudio.annotated_tasks import EvaluationAPI
from prelabel.labelstudio.rest import Project
from prelabel.labelstudio.threshold_edit import set_thresholds
from prelabel.settings.paths import resolve_path


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """A change of the thresholds of a project's labels.

    Attributes:
        studio: Label Studio.
        project: The project as it was read.
        thresholds: The new thresholds by label.
    """

    studio: EvaluationAPI
    project: Project
    thresholds: Mapping[str, float]

    def offer(self, console: Console, *, yes: bool) -> None:
        """Show the change, ask for a confirmation unless `yes`, and make it.

        Raises:
            LabelingConfigError: The config cannot be edited.
            LabelStudioError: Label Studio refuses, or the config has changed meanwhile.
        """
        old = self.project.label_config
        new = set_thresholds(old, self.thresholds)
        if new == old:
            print_line("There is nothing to change in the labeling config.", console)
            return
        _show(old, new, console)
        if not yes and not typer.confirm("Write these thresholds to Label Studio?", err=True):
            print_line("Nothing was changed.", console)
            return
        self._write(new, console)

    def _write(self, new: str, console: Console) -> None:
        if self.studio.project(self.project.id).label_config != self.project.label_config:
            raise LabelStudioError(
                "The labeling config was changed in Label Studio meanwhile. Nothing was written: "
                "run the command again."
            )
        backup = _backup(self.project)
        self.studio.set_label_config(self.project, new)
        print_line(
            f"Written. The old labeling config is in {backup}: to restore it, paste the file under "
            "Settings, Labeling Interface, Code.",
            console,
        )
        print_line(
            "New predictions obey the thresholds at once. Stored predictions stay as they are "
            f"until prelabel annotate --project {self.project.id} --renew makes them again.",
            console,
        )


def _backup(project: Project) -> Path:
    """Write the present labeling config to a new file. Return its path."""
    folder = resolve_path("data/evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"project-{project.id}-labeling-{datetime.now():%Y%m%d-%H%M%S-%f}.xml"
    path.write_text(project.label_config, encoding="utf-8", newline="")
    return path


def _show(old: str, new: str, console: Console) -> None:
    for line in difflib.unified_diff(
        old.splitlines(), new.splitlines(), "labeling config now", "proposed", n=0, lineterm=""
    ):
        style = {"+": "green", "-": "red"}.get(line[:1])
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
