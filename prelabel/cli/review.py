"""`prelabel review`: annotators get the tasks whose predictions need corrections first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from rich.console import Console

from prelabel.cli.annotate import journal_path
from prelabel.cli.connect import label_studio_access
from prelabel.cli.service_client import ServiceClient
from prelabel.cli.tables import Column, print_table
from prelabel.cli.terminal import counted, print_json, print_line, print_paragraph
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
    json_output: bool = False


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
        path = options.journal or journal_path(studio.address, target)
        _show_look_alikes(path, console, json_output=options.json_output)
        return
    project = studio.project(options.project)
    predicted = studio.count_predicted(project.id, version)
    if not predicted:
        raise LabelStudioError(f"Run prelabel annotate --project {project.id} first.")
    tasks = counted(predicted, "task", "tasks")
    print_line(
        f"Project {project.id} ({project.title}): {tasks} with predictions of {version}.", console
    )
    if options.apply:
        studio.hand_out_by_score(project.id, version)
        project = studio.project(project.id)
    is_set = (project.sampling, project.model_version) == (BY_SCORE, version)
    rows = _lowest(studio, project.id, version) if is_set else []
    if options.json_output:
        print_json(
            {
                "project": project.id,
                "model_version": version,
                "predicted": predicted,
                "sampling": project.sampling,
                "shown_version": project.model_version,
                "lowest_first": is_set,
                "lowest": rows,
            }
        )
    elif is_set:
        _show_lowest(rows, console)
    else:
        print_paragraph(
            f"Label Studio hands out tasks by {project.sampling or 'their ids'}, and shows the "
            f"predictions of {project.model_version or 'no model'}. With --apply it hands out the "
            f"tasks with the lowest scores of {version} first.",
            console,
        )


def _show_lowest(rows: Sequence[_Lowest], console: Console) -> None:
    print_paragraph(
        "Annotators get the tasks with the lowest scores first (Label All Tasks). To change that: "
        "Settings, General, Task Sampling.",
        console,
    )
    columns = (Column("task", is_number=True), Column("score"), Column("address"))
    texts = [(str(row["task"]), f"{row['score']:.3f}", row["address"]) for row in rows]
    print_table(columns, texts, console)


class _Lowest(TypedDict):
    task: int
    score: float
    address: str


def _lowest(studio: ReviewAPI, project: int, version: str) -> list[_Lowest]:
    """Return the tasks with the lowest scores."""
    return [
        {
            "task": scored.task,
            "score": scored.score,
            "address": studio.task_address(project, scored.task),
        }
        for scored in studio.lowest_scores(project, version, _FIRST_TASKS)
    ]


def _show_look_alikes(path: Path, console: Console, *, json_output: bool) -> None:
    pictures = pictures_in(path)
    groups = group_alike(pictures.hashes)
    if json_output:
        listed = [sorted(set(pictures.tasks[group].tolist())) for group in groups]
        print_json({"groups": listed, "pictures": len(pictures.hashes)})
        return
    for group in groups:
        tasks = sorted(set(pictures.tasks[group].tolist()))
        if len(tasks) == 1:
            print_line(f"task {tasks[0]}: {len(group)} of its pictures look alike", console)
        else:
            print_line(f"tasks {', '.join(map(str, tasks))}", console)
    noun = "group" if len(groups) == 1 else "groups"
    print_line(f"{len(groups)} {noun} in {len(pictures.hashes)} pictures ({path}).", console)
