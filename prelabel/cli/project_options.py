"""The options of the commands for whole projects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from prelabel.cli.options import OUTPUT

_WHICH: Final = "Which tasks"
_RUN: Final = "The run"
_WHAT: Final = "What to look for"
_THRESHOLDS: Final = "Thresholds"

Concurrency = Annotated[
    int,
    typer.Option(
        min=1, max=64, help="Greatest number of requests at a time.", rich_help_panel=_RUN
    ),
]
Patience = Annotated[
    float,
    typer.Option(
        min=0, help="Minutes to wait for a server that does not answer.", rich_help_panel=_RUN
    ),
]
Journal = Annotated[
    Path | None,
    typer.Option(
        help="File of the run's journal. Default: one a project and model version.",
        rich_help_panel=_RUN,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        help="Prompt for all tasks of this run, instead of the project's own.",
        rich_help_panel=_WHAT,
    ),
]
BoxThreshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Least score of a box, for this run.", rich_help_panel=_WHAT),
]
TextThreshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Least score of a word, for this run.", rich_help_panel=_WHAT),
]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace", help="Remove this backend's older predictions.", rich_help_panel=_WHICH
    ),
]
Renew = Annotated[
    bool,
    typer.Option(
        "--renew",
        help="Make predictions of the same model version again, too.",
        rich_help_panel=_WHICH,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Count the tasks that are left.", rich_help_panel=_RUN)
]
View = Annotated[
    int | None,
    typer.Option(min=1, help="Only the tasks of this tab: ?tab=NUMBER.", rich_help_panel=_WHICH),
]
Unannotated = Annotated[
    bool,
    typer.Option("--unannotated", help="Only tasks without annotations.", rich_help_panel=_WHICH),
]
Failed = Annotated[
    bool, typer.Option("--failed", help="List the tasks that failed.", rich_help_panel=_RUN)
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Try the tasks that failed again.", rich_help_panel=_RUN),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON lines for a program.", rich_help_panel=OUTPUT)
]
ProjectNumber = Annotated[int, typer.Option(min=1, help="Number of the project: /projects/NUMBER.")]
ApplyOrder = Annotated[bool, typer.Option("--apply", help="Set the order in Label Studio.")]
OrderVersion = Annotated[
    str | None,
    typer.Option(help="Predictions to order by. Default: those of the running service."),
]
LookAlikes = Annotated[
    bool, typer.Option("--look-alikes", help="List the tasks whose pictures look alike.")
]
StoredVersion = Annotated[
    str | None,
    typer.Option(help="Evaluate the stored predictions of this version. Default: the service's."),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Ask the service for the predictions; store none.")
]
PageFile = Annotated[
    Path | None,
    typer.Option(
        help="File of the page. Default: evaluation-project-N.html.", rich_help_panel=OUTPUT
    ),
]
NoPage = Annotated[bool, typer.Option("--no-page", help="Write no page.", rich_help_panel=OUTPUT)]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json", help="File of the figures as JSON; - prints them.", rich_help_panel=OUTPUT
    ),
]
Advise = Annotated[
    bool,
    typer.Option(
        "--advise", help="Propose a threshold for each label.", rich_help_panel=_THRESHOLDS
    ),
]
Precision = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Precision that the thresholds should reach.",
        rich_help_panel=_THRESHOLDS,
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Recall that the thresholds should keep.",
        rich_help_panel=_THRESHOLDS,
    ),
]
ApplyThresholds = Annotated[
    bool,
    typer.Option(
        "--apply",
        help="Write the thresholds to the labeling config.",
        rich_help_panel=_THRESHOLDS,
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Do not ask before writing.", rich_help_panel=_THRESHOLDS)
]
