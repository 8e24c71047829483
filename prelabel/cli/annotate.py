"""`prelabel annotate`: a prediction for every task of a project, with progress."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from prelabel.checkpoints.cards import list_cards
from prelabel.checkpoints.version import is_version_of
from prelabel.cli.connect import label_studio_access, read_config
from prelabel.cli.detector_watch import DetectorWatch
from prelabel.cli.exit_status import FINISHED, SOME_FAILED, STOPPED
from prelabel.cli.progress import shown
from prelabel.cli.service_client import (
    NOT_NOW,
    Health,
    RequestTooLargeError,
    ServiceClient,
    ServiceTimeoutError,
)
from prelabel.cli.terminal import counted, print_json, print_line
from prelabel.labelstudio.bulk import BulkAPI
from prelabel.labelstudio.data_manager import Filters, without_annotations
from prelabel.labelstudio.import_check import ImportCheck
from prelabel.labelstudio.rest import Project, StoredTask, predict_request
from prelabel.projects.annotate import (
    AnnotateError,
    AnnotateRun,
    Answer,
    NotNowError,
    Predict,
    Progress,
    Target,
    TooManyTasksError,
)
from prelabel.projects.journal import RunJournal, count_made_in, failures_in
from prelabel.settings import Environment
from prelabel.settings.paths import resolve_path
from prelabel.types import PromptRequest


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
    replace: bool
    renew: bool
    request: PromptRequest

    @property
    def removes(self) -> bool:
        """True if the run removes older predictions."""
        return self.replace or self.renew


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
    target = _target(options, studio, health, project.label_config)
    path = options.journal or journal_path(studio.address, target)
    if options.dry_run:
        return _show_count(studio, target, path, options, console)
    if options.failed:
        return _show_failures(path, options, console)
    journal = RunJournal(path)
    try:
        _check_replaces(studio, target, journal)
        if options.retry_failed:
            journal.forget_failures()
        title = f"Project {project.id} ({project.title}), model version {target.version}."
        with (
            DetectorWatch(client, health.detectors) as detectors,
            _shown(title, console, detectors, options) as observe,
        ):
            run = AnnotateRun(
                studio,
                predictor(client, project, options.request),
                journal,
                target,
                concurrency=options.concurrency,
                patience_s=60 * options.patience_min,
                observe=observe,
                fault_of=ImportCheck(project.label_config),
            )
            progress = run.run()
        return _show_end(progress, journal, options, console)
    except KeyboardInterrupt:
        console.print("Stopped. Run the same command again to continue.")
        sys.stdout.flush()
        os._exit(STOPPED)  # without the threads whose requests are open for up to two minutes
    finally:
        journal.close()


@contextmanager
def _shown(
    title: str, console: Console, detectors: DetectorWatch, options: AnnotateOptions
) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows the progress, with detectors and removed predictions."""
    removed = 0

    def detail() -> str:
        parts = [detectors.text(), f"{removed} older predictions removed" if removed else ""]
        return ", ".join(filter(None, parts))

    with shown(title, console, json_output=options.json_output, detail=detail) as show:

        def observe(progress: Progress) -> None:
            nonlocal removed
            removed = progress.removed
            show(progress)

        yield observe


def journal_path(label_studio: str, target: Target) -> Path:
    """Return the default file of a run's journal: one for each project and model version."""
    place = hashlib.sha256(label_studio.encode()).hexdigest()[:8]
    version = re.sub(r"[^\w.-]", "_", target.version)
    return resolve_path("data/annotate") / f"{place}-project-{target.project}-{version}.sqlite"


def _target(options: AnnotateOptions, studio: BulkAPI, health: Health, label_config: str) -> Target:
    wanted = {name: each for name, each in asdict(options.request).items() if each is not None}
    if missing := wanted.keys() - set(health.predict_params):
        raise AnnotateError(
            f"The service is of an older version ({health.service_version}), which would ignore "
            f"--{min(missing).replace('_', '-')}. Start the service of this version."
        )
    older: list[str] = []
    if options.replace:
        cards = {health.model.name, *(card.name for card in list_cards())}
        older = [
            version
            for version in studio.model_versions(options.project)
            if version != health.model_version and is_version_of(version, cards)
        ]
    if options.renew:  # a run with the same labeling config continues
        wanted["labeling_config"] = hashlib.sha256(label_config.encode()).hexdigest()
    return Target(
        options.project,
        health.model_version,
        _filters(options, studio),
        request=json.dumps(wanted, sort_keys=True) if wanted else "",
        renews=options.renew or (bool(wanted) and options.replace),
        older=tuple(older),
    )


def _check_replaces(studio: BulkAPI, target: Target, journal: RunJournal) -> None:
    """Refuse a prompt for tasks whose predictions come from another one and are to stay."""
    if not target.request or target.renews:
        return
    page = studio.tasks_with(
        target.project, target.version, after=0, count=1, filters=target.filters
    )
    if (others := page.remaining - journal.count_made(target.request)) > 0:
        raise AnnotateError(
            f"{_tasks_have(others)} predictions of {target.version} already, which do not come "
            "from this prompt and these thresholds. Add --replace to replace them."
        )


def _filters(options: AnnotateOptions, studio: BulkAPI) -> Filters:
    filters = [] if options.view is None else studio.view_filters(options.project, options.view)
    return [*filters, *without_annotations()] if options.unannotated else filters


def predictor(client: ServiceClient, project: Project, request: PromptRequest) -> Predict:
    """Return the function that asks a service for predictions as Label Studio does."""

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        try:
            return client.predict_tasks(predict_request(project, tasks, request), len(tasks))
        except (RequestTooLargeError, ServiceTimeoutError) as error:
            raise TooManyTasksError(str(error)) from error
        except NOT_NOW as error:
            raise NotNowError(str(error)) from error

    return predict


def _show_count(
    studio: BulkAPI, target: Target, path: Path, options: AnnotateOptions, console: Console
) -> int:
    project, filters = target.project, target.filters
    page = studio.tasks_without(project, target.version, after=0, count=1, filters=filters)
    replaced = {
        version: studio.tasks_with(project, version, after=0, count=1, filters=filters).remaining
        for version in target.older
    }
    if target.renews:
        same = studio.tasks_with(project, target.version, after=0, count=1, filters=filters)
        replaced[target.version] = max(0, same.remaining - count_made_in(path, target.request))
    if options.json_output:
        found: dict[str, object] = {"left": page.remaining, "model_version": target.version}
        print_json(found | {"replaced": replaced} if options.removes else found)
        return FINISHED
    print_line(f"{_tasks_have(page.remaining)} no prediction of {target.version}.", console)
    for version, count in replaced.items():
        print_line(f"{_tasks_have(count)} predictions of {version} to replace.", console)
    return FINISHED


def _tasks_have(count: int) -> str:
    return counted(count, "task has", "tasks have")


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
        ended = {"done": progress.done, "failed": progress.failed, "left": left}
        print_json(ended | {"removed": progress.removed} if options.removes else ended)
    else:
        print_line(f"{progress.done} done, {progress.failed} failed.", console)
        if options.removes:
            print_line(f"{progress.removed} older predictions removed.", console)
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
