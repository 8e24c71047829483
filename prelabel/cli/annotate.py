"""`prelabel annotate`: a prediction for every task of a project, with progress."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from prelabel.cli.connect import label_studio_access, read_config
from prelabel.cli.progress import (
    FINISHED,
    SOME_FAILED,
    STOPPED,
    print_json,
    print_line,
    shown,
)
from prelabel.cli.service_client import (
    RequestTooLargeError,
    ServiceBusyError,
    ServiceClient,
    ServiceStartingError,
    ServiceTimeoutError,
    ServiceUnreachableError,
)
from prelabel.labelstudio.bulk import BulkAPI, Filters, without_annotations
from prelabel.labelstudio.rest import Project, StoredTask, predict_request
from prelabel.projects.annotate import (
    AnnotateRun,
    Answer,
    NotNowError,
    Predict,
    Progress,
    Target,
    TooManyTasksError,
)
from prelabel.projects.journal import RunJournal, failures_in
from prelabel.settings import Environment
from prelabel.settings.paths import resolve_path


@dataclass(frozen=True, slots=True)
class AnnotateOptions:
    """Options of `prelabel annotate`; main.py describes them."""

    project: int
    view: int | None
    unannotated: bool
    concurrency: int
    patience_min: float
    journal: Path | None
    dry_run: bool
    failed: bool
    retry_failed: bool
    json_output: bool


def annotate(
    options: AnnotateOptions, client: ServiceClient, environment: Environment, console: Console
) -> int:
    """Annotate a project, or show what is left to do. Return the exit status.

    Raises:
        ServiceError, LabelStudioError, ConnectError: The run cannot begin.
        AnnotateError: It cannot continue.
        RunJournalError: The journal cannot be used.
    """
    studio = BulkAPI(*label_studio_access(environment), client.egress)
    health = client.health()
    project = studio.project(options.project)
    read_config(project)  # a config that cannot be served fails here, and not for each task
    target = Target(project.id, health.model_version, _filters(options, studio))
    if options.dry_run:
        return _show_count(studio, target, options, console)
    path = options.journal or journal_path(studio.address, target)
    if options.failed:
        return _show_failures(path, options, console)
    journal = RunJournal(path)
    try:
        if options.retry_failed:
            journal.forget_failures()
        title = f"Project {project.id} ({project.title}), model version {target.version}."
        with shown(title, console, json_output=options.json_output) as observe:
            run = AnnotateRun(
                studio,
                _predictor(client, project),
                journal,
                target,
                concurrency=options.concurrency,
                patience_s=60 * options.patience_min,
                observe=observe,
            )
            progress = run.run()
        return _show_end(progress, journal, options, console)
    except KeyboardInterrupt:
        console.print("Stopped. Run the same command again to continue.")
        sys.stdout.flush()
        os._exit(STOPPED)  # without the threads whose requests are open for up to two minutes
    finally:
        journal.close()


def journal_path(label_studio: str, target: Target) -> Path:
    """Return the default file of a run's journal: one for each project and model version."""
    place = hashlib.sha256(label_studio.encode()).hexdigest()[:8]
    version = re.sub(r"[^\w.-]", "_", target.version)
    return resolve_path("data/annotate") / f"{place}-project-{target.project}-{version}.sqlite"


def _filters(options: AnnotateOptions, studio: BulkAPI) -> Filters:
    filters = [] if options.view is None else studio.view_filters(options.project, options.view)
    return [*filters, *without_annotations()] if options.unannotated else filters


def _predictor(client: ServiceClient, project: Project) -> Predict:
    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        try:
            return client.predict_tasks(predict_request(project, tasks), len(tasks))
        except (RequestTooLargeError, ServiceTimeoutError) as error:
            raise TooManyTasksError(str(error)) from error
        except (ServiceBusyError, ServiceStartingError, ServiceUnreachableError) as error:
            raise NotNowError(str(error)) from error

    return predict


def _show_count(studio: BulkAPI, target: Target, options: AnnotateOptions, console: Console) -> int:
    page = studio.tasks_without(
        target.project, target.version, after=0, count=1, filters=target.filters
    )
    if options.json_output:
        print_json({"left": page.remaining, "model_version": target.version})
    else:
        print_line(f"{page.remaining} tasks have no prediction of {target.version}.", console)
    return FINISHED


def _show_failures(path: Path, options: AnnotateOptions, console: Console) -> int:
    for failure in failures_in(path):
        if options.json_output:
            print_json({"task": failure.task, "error": failure.reason})
        else:
            print_line(f"task {failure.task}: {failure.reason}", console)
    return FINISHED


def _show_end(
    progress: Progress, journal: RunJournal, options: AnnotateOptions, console: Console
) -> int:
    left = max(0, progress.total - progress.done - progress.failed)
    if options.json_output:
        print_json({"done": progress.done, "failed": progress.failed, "left": left})
    else:
        print_line(f"{progress.done} done, {progress.failed} failed.", console)
        if left:
            print_line(f"{left} left. Run the same command again to continue.", console)
        if progress.failed:
            print_line(
                "--failed lists them with the reasons, --retry-failed tries them again. The "
                f"journal is {journal.path}.",
                console,
            )
    if left:
        return STOPPED
    return SOME_FAILED if progress.failed else FINISHED
