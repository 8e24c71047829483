"""`prelabel review`: annotators get the tasks whose predictions need corrections first."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from prelabel.cli.connect import label_studio_access
from prelabel.cli.progress import print_line
from prelabel.cli.service_client import ServiceClient
from prelabel.errors import LabelStudioError
from prelabel.labelstudio.review_api import BY_SCORE, ReviewAPI
from prelabel.settings import Environment

_FIRST_TASKS = 10  # that are listed


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """Options of `prelabel review`; project_commands.py describes them."""

    project: int
    version: str | None
    apply: bool


def review(
    options: ReviewOptions, client: ServiceClient, environment: Environment, console: Console
) -> None:
    """Show in which order annotators get the tasks, or set it.

    Raises:
        ServiceError, LabelStudioError, ConnectError: With the sentence to show.
    """
    studio = ReviewAPI(*label_studio_access(environment), client.egress)
    version = options.version or client.health().model_version
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
    order = studio.task_order(project.id)
    if (order.sampling, order.model_version) != (BY_SCORE, version):
        print_line(
            f"Label Studio hands out tasks by {order.sampling or 'their ids'}, and shows the "
            f"predictions of {order.model_version or 'no model'}. With --apply it hands out the "
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
        address = f"{studio.address}/projects/{project.id}/data?task={scored.task}"
        table.add_row(str(scored.task), f"{scored.score:.3f}", address)
    console.print(table)
