"""`prelabel review`: annotators get the tasks whose predictions need corrections first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prelabel.cli.annotate import journal_path
from prelabel.cli.connect import label_studio_access
from prelabel.cli.progress import print_line
from prelabel.cli.service_client import ServiceClient
from prelabel.errors import LabelStudioError
from prelabel.labelstudio.review_api import BY_SCORE, ReviewAPI
from prelabel.projects.annotate import Target
from prelabel.projects.duplicates import group_alike
from prelabel.projects.journal import pictures_in
from prelabel.settings import Environment

_FIRST_TASKS = 10  # that are listed

_CONFIDENCES = (
    "The service scores predictions by confidence, which says little about missed objects. For an "
    "order by expected corrections, set review: {prediction_score: uncertainty} in its config, and "
    "annotate again."
)


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """Options of `prelabel review`; project_commands.py describes them."""

    project: int
    version: str | None
    apply: bool
    look_alikes: bool
    journal: Path | None


def review(
    options: ReviewOptions, client: ServiceClient, environment: Environment, console: Console
) -> None:
    """Show in which order annotators get the tasks, or set it, or list look-alikes.

    Raises:
        ServiceError, LabelStudioError, ConnectError, RunJournalError: With the sentence to show.
    """
    studio = ReviewAPI(*label_studio_access(environment), client.egress)
    version = options.version
    if version is None:
        health = client.health()
        version = health.model_version
        if health.prediction_score == "confidence" and not options.look_alikes:
            print_line(_CONFIDENCES, console)
    if options.look_alikes:
        target = Target(options.project, version, [])
        _show_look_alikes(options.journal or journal_path(studio.address, target), console)
        return
    project = studio.project(options.project)
    predicted = studio.count_predicted(project.id, version)
    print_line(
        f"Project {project.id} ({project.title}): {predicted} tasks with predictions of {version}.",
        console,
    )
    if not predicted:
        raise LabelStudioError(f"Run prelabel annotate --project {project.id} first.")
    if options.apply:
        studio.hand_out_by_score(project.id, version)
        project = studio.project(project.id)
    if (project.sampling, project.model_version) != (BY_SCORE, version):
        print_line(
            f"Label Studio hands out tasks by {project.sampling or 'their ids'}, and shows the "
            f"predictions of {project.model_version or 'no model'}. With --apply it hands out the "
            f"tasks with the lowest scores of {version} first.",
            console,
        )
        return
    print_line(
        "Annotators get the tasks with the lowest scores first (Label All Tasks). To change that: "
        "Settings, General, Task Sampling.",
        console,
    )
    table = Table("task", "score", "address")
    for scored in studio.lowest_scores(project.id, version, _FIRST_TASKS):
        address = studio.task_address(project.id, scored.task)
        table.add_row(str(scored.task), f"{scored.score:.3f}", address)
    console.print(table)


def _show_look_alikes(path: Path, console: Console) -> None:
    pictures = pictures_in(path)
    groups = group_alike(pictures.hashes)
    for group in groups:
        tasks = sorted(set(pictures.tasks[group].tolist()))
        if len(tasks) == 1:
            print_line(f"task {tasks[0]}: {len(group)} of its pictures look alike", console)
        else:
            print_line(f"tasks {', '.join(map(str, tasks))}", console)
    noun = "group" if len(groups) == 1 else "groups"
    print_line(f"{len(groups)} {noun} in {len(pictures.hashes)} pictures ({path}).", console)
