"""`prelabel evaluate`: this model's predictions against the annotations of a project."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from prelabel.cli.annotate import predictor
from prelabel.cli.connect import label_studio_access, read_config
from prelabel.cli.evaluation_tables import print_report
from prelabel.cli.progress import Count, shown
from prelabel.cli.service_client import ServiceClient, ServiceError
from prelabel.cli.terminal import counted, open_terminal, print_line
from prelabel.cli.threshold_changes import ThresholdChange
from prelabel.evaluation.advice import Wish
from prelabel.evaluation.report import Report, report_on
from prelabel.evaluation.summary import summary_of
from prelabel.labelstudio.annotated_tasks import AnnotatedTask, EvaluationAPI
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.rest import Project
from prelabel.projects.ask import PatientAsker
from prelabel.projects.evaluate import (
    EvaluateError,
    ProjectReader,
    ReadProject,
    check_samples,
    current_thresholds,
    newest_version,
)
from prelabel.projects.page.drawings import draw_all
from prelabel.projects.page.render import Heading, render_page
from prelabel.service import image_download
from prelabel.settings import AppSettings, Environment
from prelabel.types import PromptRequest

LOWEST: Final = 0.05  # threshold of the predictions from which thresholds are chosen
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """Options of `prelabel evaluate`; project_commands.py describes them."""

    project: int
    model_version: str | None
    fresh: bool
    page: Path | None
    has_page: bool
    json_file: str | None
    wish: Wish | None
    apply: bool
    yes: bool


def wish_of(
    advise: bool, apply: bool, precision: float | None, recall: float | None
) -> Wish | None:
    """Return what the options want thresholds for, None without --advise.

    Raises EvaluateError for options that contradict each other.
    """
    if precision is not None and recall is not None:
        raise EvaluateError("Give --precision or --recall, not both.")
    if not advise:
        if apply or precision is not None or recall is not None:
            raise EvaluateError(
                "Give --advise, too: --apply, --precision and --recall belong to it."
            )
        return None
    if precision is not None:
        return Wish("precision", precision)
    return Wish() if recall is None else Wish("recall", recall)


@dataclass(frozen=True, slots=True)
class _Source:
    """The predictions of an evaluation.

    Attributes:
        read: The pictures.
        words: The same, in words.
        thresholds: The threshold of each label now; empty if stored predictions tell it.
        lowest: Lowest threshold of the predictions.
        is_stored: False if the service was asked.
    """

    read: ReadProject
    words: str
    thresholds: dict[str, float]
    lowest: float
    is_stored: bool = False


def evaluate(
    options: EvaluateOptions, client: ServiceClient, environment: Environment, console: Console
) -> int:
    """Evaluate a project; propose and write thresholds if asked to. Return the exit status.

    Raises:
        EvaluateError: There is nothing to measure.
        ServiceError, LabelStudioError, ConnectError: A server refuses or does not answer.
        LabelingConfigError: The labeling config cannot be served, or not be edited.
    """
    # Results for programs go to the standard output, and everything else away from it.
    console = open_terminal(json_output=True) if options.json_file == "-" else console
    studio = EvaluationAPI(*label_studio_access(environment), client.egress)
    project = studio.project(options.project)
    config = read_config(project)
    source = _Evaluation(options, client, studio, project, config).source()
    read = source.read
    check_samples(read, project.id, is_stored=source.is_stored)
    report = report_on(
        read.samples,
        labels=config.names.values,
        thresholds=source.thresholds or None,
        annotated=read.annotated,
        wish=options.wish,
        lowest=source.lowest,
    )
    notes = _notes(read)
    print_report(report, _title(project, read, source), notes, console)
    if options.json_file is not None:
        _write_json(report, project, read, notes, options.json_file)
    if options.has_page:
        _write_page(report, project, source, notes, studio, options, environment, console)
    if options.apply and report.advice is not None:
        ThresholdChange(studio, project, report.advice.proposals).offer(console, yes=options.yes)
    return 0


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Reads the pictures with the predictions that the options name."""

    options: EvaluateOptions
    client: ServiceClient
    studio: EvaluationAPI
    project: Project
    config: LabelingConfig

    def source(self) -> _Source:
        """Return the pictures with their predictions."""
        if self.options.model_version is None and (self.options.wish or self.options.fresh):
            return self._low() if self.options.wish else self._fresh()
        return self._stored()

    def _fresh(self) -> _Source:
        """Ask the service as a bulk prediction does."""
        self.client.health()
        return _Source(self._asked(PromptRequest()), "asked for now", {}, 0.0)

    def _low(self) -> _Source:
        """Ask the service with low thresholds, because stored predictions lack lower boxes."""
        health = self.client.health()
        if health.detection is None or "box_threshold" not in health.predict_params:
            raise EvaluateError(
                f"The service has version {health.service_version}, which does not tell its "
                "thresholds, or takes none with a request. Start the version that this command "
                "belongs to."
            )
        self._check_remembered()
        read = self._asked(PromptRequest(box_threshold=LOWEST))
        thresholds = current_thresholds(self.config, health.detection.box_threshold)
        return _Source(read, f"asked for now down to a threshold of {LOWEST}", thresholds, LOWEST)

    def _stored(self) -> _Source:
        """Read stored predictions: of the wanted version, the service's, or the newest one."""
        version, default = self.options.model_version, None
        if version is None or self.options.wish:
            try:
                health = self.client.health()
                version = version or health.model_version
                default = health.detection.box_threshold if health.detection else None
            except ServiceError:
                version = version or newest_version(self._pages())
        if version is None:
            raise EvaluateError(
                f"The annotated tasks of project {self.project.id} have no predictions, and no "
                "service answers. Start it with `make serve`, and run `prelabel annotate "
                f"--project {self.project.id}`."
            )
        with self._reader() as reader:
            read = reader.read_stored(self._pages(), version)
        thresholds: dict[str, float] = {}
        if self.options.wish:  # stored predictions have the boxes over their thresholds only
            known = {} if default is None else current_thresholds(self.config, default)
            thresholds = _least_scores(read) | known
        return _Source(read, "stored in Label Studio", thresholds, 0.0, is_stored=True)

    def _asked(self, request: PromptRequest) -> ReadProject:
        predict = predictor(self.client, self.project, request)
        with self._reader() as reader:
            return reader.read_fresh(self._pages(), PatientAsker(predict, _PATIENCE_S))

    def _pages(self) -> Iterator[list[AnnotatedTask]]:
        return self.studio.annotated_tasks(self.project.id)

    @contextmanager
    def _reader(self) -> Iterator[ProjectReader]:
        total = self.studio.count_annotated(self.project.id)
        # The progress is not part of the report, which may go to a file.
        console = open_terminal(json_output=True)
        with shown("Reading annotated tasks.", console, json_output=False) as observe:
            yield ProjectReader(self.config, lambda count: observe(Count(total, count)))

    def _check_remembered(self) -> None:
        threshold = self.client.remembered_threshold(self.project.id, self.project.key)
        if threshold is not None:
            raise EvaluateError(
                f"The service remembers a box threshold of {threshold:g} for the project, which "
                "has precedence over those of the labels. Remove it from the model's Extra params "
                "in Label Studio, or from the last submitted annotation: send DELETE "
                f"{self.client.url}/prompts?project={self.project.id}."
            )


def _least_scores(read: ReadProject) -> dict[str, float]:
    """Return the least score of each label's predicted boxes."""
    least: dict[str, float] = {}
    for sample in read.samples:
        for label, score in zip(sample.predicted.labels, sample.predicted.scores, strict=True):
            least[label] = min(float(score), least.get(label, 1.0))
    return least


def _title(project: Project, read: ReadProject, source: _Source) -> str:
    return (
        f"Project {project.id} ({project.title}), model version {read.version}, predictions "
        f"{source.words}."
    )


def _notes(read: ReadProject) -> list[str]:
    """Return sentences about what was left out."""
    notes = []
    if read.unpredicted:
        notes.append(
            f"{read.unpredicted} of {read.tasks} annotated tasks have no prediction of "
            f"{read.version} and are left out. `prelabel annotate` adds them."
        )
    if read.failures:
        task, reason = next(iter(read.failures.items()))
        tasks = counted(len(read.failures), "annotated task is", "annotated tasks are")
        notes.append(f"{tasks} left out. Task {task}: {reason}")
    if read.left_out:
        shapes = ", ".join(f"{count} {shape}" for shape, count in read.left_out.most_common())
        notes.append(f"Regions of people that are no boxes do not count: {shapes}.")
    if read.unsized:
        notes.append(
            f"{counted(read.unsized, 'picture has', 'pictures have')} regions without the size of "
            "the picture, taken as 1000 x 1000 pixels; the figures by size are not exact."
        )
    return notes


def _write_json(
    report: Report, project: Project, read: ReadProject, notes: list[str], file: str
) -> None:
    summary = {
        "project": project.id,
        "model_version": read.version,
        **summary_of(report),
        "notes": notes,
    }
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text, encoding="utf-8")


def _write_page(
    report: Report,
    project: Project,
    source: _Source,
    notes: list[str],
    studio: EvaluationAPI,
    options: EvaluateOptions,
    environment: Environment,
    console: Console,
) -> None:
    with console.status("Drawing the worst pictures ..."):
        fetch = image_download(environment.override(AppSettings()), environment)
        drawings = draw_all(report.worst, fetch, lambda task: studio.task_address(project.id, task))
    heading = Heading(
        title=project.title or f"Project {project.id}",
        address=f"{studio.address}/projects/{project.id}/data",
        project=project.id,
        version=source.read.version,
        source=f"predictions {source.words}",
        made_at=datetime.now().astimezone(),
        notes=notes,
    )
    path = options.page or Path(f"evaluation-project-{project.id}.html")
    path.write_text(render_page(report, heading, drawings), encoding="utf-8")
    print_line(f"The page with plots and the worst pictures: {path}", console)
