"""`prelabel annotate --input`: predictions for pictures that are in no project."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from rich.console import Console

from prelabel.cli.annotate_job import annotate_into_bucket, run_job
from prelabel.cli.exit_status import FINISHED, SOME_FAILED, STOPPED
from prelabel.cli.input_plan import InputOptions, InputPlan, plan_input
from prelabel.cli.progress import shown
from prelabel.cli.terminal import counted, print_json, print_line
from prelabel.offline.buckets import is_bucket
from prelabel.offline.exports import export, require_formats
from prelabel.offline.folders import SUFFIXES
from prelabel.offline.items import InputError
from prelabel.offline.manifest import NAME as MANIFEST
from prelabel.offline.pictures import picture_reader
from prelabel.offline.predictor import LocalPredictor, local_resources
from prelabel.offline.results import TASKS, ResultFolder, failures_in
from prelabel.offline.run import OfflineRun, Progress
from prelabel.settings import Environment

_CHUNKS = 2  # pictures of a chunk, in batches of the model


def annotate_input(options: InputOptions, environment: Environment, console: Console) -> int:
    """Predict pictures and write them, or show what is left to do. Return the exit status.

    Raises:
        InputError, LabelStudioError, ModelError, LabelingConfigError, PromptError: The run cannot
            begin.
        OutputError, RunError: It cannot continue.
    """
    require_formats(options.formats)
    if is_bucket(options.output):
        return annotate_into_bucket(options, environment, console)
    if options.failed:
        return _show_failures(options, console)
    plan = plan_input(options, environment)
    if options.dry_run:
        return _show_count(plan, options, console)
    if not options.json_output:
        for note in plan.notes:
            print_line(note, console)
    results = ResultFolder(options.folder, plan.manifest)
    log = logging.getLogger("prelabel")
    level = log.level
    log.setLevel(logging.ERROR)  # failed.jsonl has the failures
    try:
        if options.retry_failed:
            results.forget_failures()
        if options.ray:
            progress = run_job(plan, results, options, console)
        else:
            progress = _run(plan, results, options, environment, console)
        notes = _finish(plan, results, progress, options)
        return _show_end(results, progress, notes, options, console)
    except KeyboardInterrupt:
        print_line("Stopped. Run the same command again to continue.", console)
        results.close()
        sys.stdout.flush()
        os._exit(STOPPED)  # without waiting for the pictures in progress
    finally:
        log.setLevel(level)
        results.close()


def _run(
    plan: InputPlan,
    results: ResultFolder,
    options: InputOptions,
    environment: Environment,
    console: Console,
) -> Progress:
    settings = plan.settings
    predictor = LocalPredictor(
        settings,
        plan.search,
        local_resources(settings.model.device),
        picture_reader(settings, environment, plan.input.base),
    )
    title = f"{plan.input.name}, model version {predictor.version}."
    with shown(title, console, json_output=options.json_output, unit="pictures") as observe:
        run = OfflineRun(
            plan.input.source,
            predictor,
            results,
            chunk=_CHUNKS * settings.detection.max_batch_size,
            observe=observe,
        )
        progress = run.run()
    predictor.close()
    return progress


def _finish(
    plan: InputPlan, results: ResultFolder, progress: Progress, options: InputOptions
) -> Sequence[str]:
    if not progress.listed:
        raise InputError(
            f"There is nothing to annotate in {plan.input.name}. Pictures are files that end with "
            f"{', '.join(sorted(SUFFIXES))}; hidden ones are left out."
        )
    notes = export(results.folder, options.formats, plan.labels, plan.input.pictures)
    stored, failed = results.counts()
    if (repeated := progress.listed - stored - failed) > 0:
        equal = counted(repeated, "task of the input equals", "tasks of the input equal")
        notes.append(f"{equal} another one; equal tasks are annotated once.")
    return notes


def _show_count(plan: InputPlan, options: InputOptions, console: Console) -> int:
    results = None
    if (options.folder / MANIFEST).exists():
        results = ResultFolder(options.folder, plan.manifest)
    left = 0
    for item in plan.input.source.items():
        left += results is None or not results.known([item.key])[0]
    if results is not None:
        results.close()
    version = plan.manifest.model_version
    if options.json_output:
        print_json({"left": left, "model_version": version})
    else:
        print_line(f"{left} have no prediction of {version} in {options.output}.", console)
    return FINISHED


def _show_failures(options: InputOptions, console: Console) -> int:
    for key, reason in failures_in(options.folder):
        if options.json_output:
            print_json({"input": key, "error": reason})
        else:
            print_line(f"{key}: {reason}", console)
    return FINISHED


def _show_end(
    results: ResultFolder,
    progress: Progress,
    notes: Sequence[str],
    options: InputOptions,
    console: Console,
) -> int:
    stored, failed = results.counts()
    if options.json_output:
        facts = {"done": progress.done, "failed": failed, "stored": stored, "notes": list(notes)}
        print_json(facts)
    else:
        print_line(f"{progress.done} done, {failed} failed.", console)
        for note in notes:
            print_line(note, console)
        tasks = counted(stored, "task with predictions is", "tasks with predictions are")
        print_line(f"{tasks} in {options.folder / TASKS}.", console)
        if failed:
            print_line(
                "--failed lists those that failed with the reasons, --retry-failed tries them "
                "again.",
                console,
            )
    return SOME_FAILED if failed else FINISHED
