"""`prelabel annotate --input`: predictions for pictures that are in no project."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from prelabel.cli.application import config_or_default
from prelabel.cli.connect import label_studio_access
from prelabel.cli.preflight import settings_in
from prelabel.cli.progress import FINISHED, SOME_FAILED, STOPPED, print_json, print_line, shown
from prelabel.errors import PromptError
from prelabel.labelstudio.labeling_config import LabelingConfig, parse_labeling_config
from prelabel.labelstudio.rest import LabelStudioAPI
from prelabel.labelstudio.task_rows import boxes_config
from prelabel.net.egress import Egress
from prelabel.offline.exports import Format, export, require_formats
from prelabel.offline.folders import SUFFIXES
from prelabel.offline.items import InputError
from prelabel.offline.manifest import NAME as MANIFEST
from prelabel.offline.manifest import Manifest
from prelabel.offline.pictures import picture_reader
from prelabel.offline.predictor import LocalPredictor, Search, local_resources, version_of
from prelabel.offline.results import TASKS, ResultFolder, failures_in
from prelabel.offline.run import OfflineRun, Progress
from prelabel.offline.sources import Input, open_input
from prelabel.prompts.parser import split_prompt
from prelabel.settings import AppSettings, Environment
from prelabel.types import PromptRequest

_CHUNKS = 2  # pictures of a chunk, in batches of the model


@dataclass(frozen=True, slots=True)
class InputOptions:
    """Options of `prelabel annotate --input`; input_command.py describes them."""

    input: str
    output: Path
    formats: tuple[Format, ...]
    labels: str | None
    prompt: str | None
    label_config: Path | None
    project: int | None
    box_threshold: float | None
    text_threshold: float | None
    address_prefix: str | None
    config: Path | None
    dry_run: bool
    failed: bool
    retry_failed: bool
    json_output: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run that can begin."""

    settings: AppSettings
    search: Search
    config: LabelingConfig
    input: Input
    manifest: Manifest


def annotate_input(options: InputOptions, environment: Environment, console: Console) -> int:
    """Predict pictures and write them, or show what is left to do. Return the exit status.

    Raises:
        InputError, LabelStudioError, ModelError, LabelingConfigError, PromptError: The run cannot
            begin.
        OutputError, RunError: It cannot continue.
    """
    if options.failed:
        return _show_failures(options, console)
    require_formats(options.formats)
    plan = _plan(options, environment)
    if options.dry_run:
        return _show_count(plan, options, console)
    logging.getLogger("prelabel").setLevel(logging.ERROR)  # failed.jsonl has the failures
    results = ResultFolder(options.output, plan.manifest)
    try:
        if options.retry_failed:
            results.forget_failures()
        progress = _run(plan, results, options, environment, console)
        notes = _finish(plan, results, progress, options)
        return _show_end(results, progress, notes, options, console)
    except KeyboardInterrupt:
        print_line("Stopped. Run the same command again to continue.", console)
        results.close()
        sys.stdout.flush()
        os._exit(STOPPED)  # without waiting for the pictures in progress
    finally:
        results.close()


def _plan(options: InputOptions, environment: Environment) -> _Plan:
    settings = environment.override(settings_in(config_or_default(options.config)))
    search = _search(options, environment, settings)
    config = parse_labeling_config(
        search.label_config, settings.prompts.max_labels, masks=bool(settings.segmenter_name)
    )
    found = open_input(options.input, config, options.address_prefix)
    manifest = Manifest.of(found.name, version_of(settings), search, found.prefix)
    return _Plan(settings, search, config, found, manifest)


def _search(options: InputOptions, environment: Environment, settings: AppSettings) -> Search:
    """Return what is searched for."""
    request = PromptRequest(options.prompt, options.box_threshold, options.text_threshold)
    phrases = split_prompt(options.prompt or "", settings.prompts.max_chars)
    in_prompt = [each.label or each.phrase for each in phrases if not each.negative]
    if options.prompt is not None and not in_prompt:
        raise PromptError('The prompt names nothing to look for. Write it as in "cat . dog".')
    given = (options.labels, options.label_config, options.project)
    if sum(each is not None for each in given) > 1:
        raise InputError("Give one of --labels, --label-config and --project.")
    if options.label_config is not None:
        try:
            return Search(options.label_config.read_text(encoding="utf-8"), request)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{options.label_config} cannot be read ({error}). Correct --label-config."
            ) from error
    if options.project is not None:
        studio = LabelStudioAPI(*label_studio_access(environment), Egress.of(environment))
        return Search(studio.project(options.project).label_config, request)
    labels = [label.strip() for label in (options.labels or "").split(",")]
    labels = list(dict.fromkeys(label for label in labels if label)) or in_prompt
    if not labels:
        raise InputError(
            'Say what to look for: --labels "cat,dog", --prompt "cat . dog", --label-config FILE, '
            "or --project NUMBER for the labels of a project."
        )
    return Search(boxes_config(list(dict.fromkeys(labels))), request)


def _run(
    plan: _Plan,
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
    plan: _Plan, results: ResultFolder, progress: Progress, options: InputOptions
) -> Sequence[str]:
    if not progress.listed:
        raise InputError(
            f"There is nothing to annotate in {plan.input.name}. Pictures are files that end with "
            f"{', '.join(sorted(SUFFIXES))}; hidden ones are left out."
        )
    labels = [label.value for control in plan.config.controls for label in control.labels]
    unique = list(dict.fromkeys(labels))
    notes = export(results.folder, options.formats, unique, plan.input.pictures)
    stored, failed = results.counts()
    if (repeated := progress.listed - stored - failed) > 0:
        notes.append(f"{repeated} tasks of the input equal another one, and were annotated once.")
    return notes


def _show_count(plan: _Plan, options: InputOptions, console: Console) -> int:
    results = None
    if (options.output / MANIFEST).exists():
        results = ResultFolder(options.output, plan.manifest)
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
    for key, reason in failures_in(options.output):
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
        print_line(f"{stored} tasks with predictions are in {options.output / TASKS}.", console)
        if failed:
            print_line(
                "--failed lists those that failed with the reasons, --retry-failed tries them "
                "again.",
                console,
            )
    return SOME_FAILED if failed else FINISHED
