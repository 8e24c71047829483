"""Declares the commands for whole projects and their options.

Each imports its work when it runs, as those of main.py do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prelabel.cli.input_command import annotate_input
from prelabel.cli.modes import two_modes
from prelabel.cli.options import Password, ServiceUrl, User, service_client
from prelabel.net.origin import SERVICE_URL

Concurrency = Annotated[
    int, typer.Option(min=1, max=64, help="Greatest number of requests at a time.")
]
Patience = Annotated[
    float, typer.Option(min=0, help="Minutes to wait for a server that does not answer.")
]
Journal = Annotated[
    Path | None,
    typer.Option(help="File of the run's journal. Default: one a project and model version."),
]
Prompt = Annotated[
    str | None, typer.Option(help="Prompt for all tasks of this run, instead of the project's own.")
]
BoxThreshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="Least score of a box, for this run.")
]
TextThreshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="Least score of a word, for this run.")
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Remove this backend's older predictions.")
]
Renew = Annotated[
    bool, typer.Option("--renew", help="Make predictions of the same model version again, too.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count the tasks that are left.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(two_modes(annotate, annotate_input, "input"))
    app.command()(review)
    app.command()(evaluate)


def annotate(
    project: Annotated[
        int | None, typer.Option(min=1, help="Number of the project: /projects/NUMBER.")
    ] = None,
    view: Annotated[
        int | None, typer.Option(min=1, help="Only the tasks of this tab: ?tab=NUMBER.")
    ] = None,
    unannotated: Annotated[
        bool, typer.Option("--unannotated", help="Only tasks without annotations.")
    ] = False,
    url: ServiceUrl = SERVICE_URL,
    concurrency: Concurrency = 4,
    patience: Patience = 15,
    journal: Journal = None,
    prompt: Prompt = None,
    box_threshold: BoxThreshold = None,
    text_threshold: TextThreshold = None,
    replace: Replace = False,
    renew: Renew = False,
    dry_run: DryRun = False,
    failed: Annotated[bool, typer.Option("--failed", help="List the tasks that failed.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try the tasks that failed again.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    user: User = None,
    password: Password = None,
) -> None:
    """Give every task of a Label Studio project a prediction of the running service.

    With --input, predict pictures that are in no project, and write them to --output.

    Tasks that have one of the same model version are left out. After Ctrl-C or a crash, run the
    command again to continue. Exits with status 3 if tasks failed, 130 if it was stopped.
    """
    from prelabel.cli.annotate import AnnotateOptions
    from prelabel.cli.annotate import annotate as annotate_project
    from prelabel.settings import read_environment
    from prelabel.types import PromptRequest

    if project is None:
        raise typer.BadParameter("Give --project NUMBER, or --input for pictures in no project.")
    environment = read_environment()
    options = AnnotateOptions(
        project=project,
        view=view,
        unannotated=unannotated,
        concurrency=concurrency,
        patience_min=patience,
        journal=journal,
        dry_run=dry_run,
        failed=failed,
        retry_failed=retry_failed,
        json_output=json_output,
        replace=replace,
        renew=renew,
        request=PromptRequest((prompt or "").strip() or None, box_threshold, text_threshold),
    )
    client = service_client(url, user, password, environment)
    raise typer.Exit(annotate_project(options, client, environment, Console()))


def review(
    project: Annotated[int, typer.Option(min=1, help="Number of the project: /projects/NUMBER.")],
    apply: Annotated[bool, typer.Option("--apply", help="Set the order in Label Studio.")] = False,
    model_version: Annotated[
        str | None,
        typer.Option(help="Predictions to order by. Default: those of the running service."),
    ] = None,
    look_alikes: Annotated[
        bool, typer.Option("--look-alikes", help="List the tasks whose pictures look alike.")
    ] = False,
    journal: Journal = None,
    url: ServiceUrl = SERVICE_URL,
    user: User = None,
    password: Password = None,
) -> None:
    """Let annotators get the most doubtful tasks of a project first, and find look-alikes.

    Label Studio orders tasks by the scores of their predictions, the lowest first. With the setting
    review.prediction_score: uncertainty, these are the tasks that need the most corrections.
    Look-alikes are known of the pictures that prelabel annotate sent from this machine.
    """
    from prelabel.cli.review import ReviewOptions
    from prelabel.cli.review import review as review_project
    from prelabel.settings import read_environment

    environment = read_environment()
    client = service_client(url, user, password, environment)
    options = ReviewOptions(project, model_version, apply, look_alikes, journal)
    review_project(options, client, environment, Console())


def evaluate(
    project: Annotated[int, typer.Option(min=1, help="Number of the project: /projects/NUMBER.")],
    url: ServiceUrl = SERVICE_URL,
    model_version: Annotated[
        str | None,
        typer.Option(
            help="Evaluate the stored predictions of this version. Default: the service's."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask the service for the predictions; store none.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="File of the page. Default: evaluation-project-N.html.")
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Write no page.")] = False,
    json_output: Annotated[
        str | None, typer.Option("--json", help="File of the figures as JSON; - prints them.")
    ] = None,
    advise: Annotated[
        bool, typer.Option("--advise", help="Propose a threshold for each label.")
    ] = False,
    precision: Annotated[
        float | None, typer.Option(min=0, max=1, help="Precision that the thresholds should reach.")
    ] = None,
    recall: Annotated[
        float | None, typer.Option(min=0, max=1, help="Recall that the thresholds should keep.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the thresholds to the labeling config.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before writing.")] = False,
    user: User = None,
    password: Password = None,
) -> None:
    """Measure the model's predictions against the submitted annotations of a project.

    Prints the figures and writes a page with plots and the worst pictures. --advise proposes
    thresholds, chosen on one half of the pictures and checked on the other.
    """
    from prelabel.cli.evaluate import EvaluateOptions, wish_of
    from prelabel.cli.evaluate import evaluate as evaluate_project
    from prelabel.settings import read_environment

    options = EvaluateOptions(
        project=project,
        model_version=model_version,
        fresh=fresh,
        page=page,
        has_page=not no_page,
        json_file=json_output,
        wish=wish_of(advise, apply, precision, recall),
        apply=apply,
        yes=yes,
    )
    environment = read_environment()
    client = service_client(url, user, password, environment)
    raise typer.Exit(evaluate_project(options, client, environment, Console()))
