"""Declares the commands for whole projects and their options.

Each imports its work when it runs, as those of main.py do.
"""

from __future__ import annotations

from typing import Annotated

import typer

from prelabel.cli.input_command import annotate_input
from prelabel.cli.modes import two_modes
from prelabel.cli.options import (
    PROJECTS_PANEL,
    AsJson,
    Password,
    ServiceUrl,
    User,
    service_client,
)
from prelabel.cli.project_options import (
    Advise,
    ApplyOrder,
    ApplyThresholds,
    BoxThreshold,
    Concurrency,
    DryRun,
    Failed,
    Fresh,
    Journal,
    JsonFile,
    JsonLines,
    LookAlikes,
    NoPage,
    OrderVersion,
    PageFile,
    Patience,
    Precision,
    ProjectNumber,
    Prompt,
    Recall,
    Renew,
    Replace,
    RetryFailed,
    StoredVersion,
    TextThreshold,
    Unannotated,
    View,
    Yes,
)
from prelabel.cli.terminal import open_terminal
from prelabel.net.origin import SERVICE_URL

_ANNOTATE_EXAMPLES = """\
Examples:

prelabel annotate --project 1 --unannotated

prelabel annotate --input photos --output results --prompt "cat . dog" --format coco"""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(rich_help_panel=PROJECTS_PANEL, epilog=_ANNOTATE_EXAMPLES)(
        two_modes(annotate, annotate_input, "input")
    )
    app.command(
        rich_help_panel=PROJECTS_PANEL,
        epilog="Example: prelabel evaluate --project 1 --advise --precision 0.9",
    )(evaluate)
    app.command(
        rich_help_panel=PROJECTS_PANEL, epilog="Example: prelabel review --project 1 --apply"
    )(review)


def annotate(
    project: Annotated[
        int | None, typer.Option(min=1, help="Number of the project: /projects/NUMBER.")
    ] = None,
    view: View = None,
    unannotated: Unannotated = False,
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
    failed: Failed = False,
    retry_failed: RetryFailed = False,
    json_output: JsonLines = False,
    user: User = None,
    password: Password = None,
) -> None:
    """Give every task of a Label Studio project a prediction of the running service.

    With --input, predict pictures that are in no project, and write them to --output.

    Tasks that have a prediction of the same model version are left out. After Ctrl-C or a crash,
    run the command again to continue. Exits with status 3 if tasks failed, 130 if it was stopped.
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
    raise typer.Exit(annotate_project(options, client, environment, open_terminal()))


def review(
    project: ProjectNumber,
    apply: ApplyOrder = False,
    model_version: OrderVersion = None,
    look_alikes: LookAlikes = False,
    journal: Journal = None,
    json_output: AsJson = False,
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
    options = ReviewOptions(project, model_version, apply, look_alikes, journal, json_output)
    review_project(options, client, environment, open_terminal(json_output=json_output))


def evaluate(
    project: ProjectNumber,
    url: ServiceUrl = SERVICE_URL,
    model_version: StoredVersion = None,
    fresh: Fresh = False,
    page: PageFile = None,
    no_page: NoPage = False,
    json_output: JsonFile = None,
    advise: Advise = False,
    precision: Precision = None,
    recall: Recall = None,
    apply: ApplyThresholds = False,
    yes: Yes = False,
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
    raise typer.Exit(evaluate_project(options, client, environment, open_terminal()))
