"""The options of `prelabel annotate --input`, and what they mean: settings, labels, input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prelabel.checkpoints.cards import load_card, model_folder, text_encoder_folder
from prelabel.cli.application import config_or_default
from prelabel.cli.connect import label_studio_access
from prelabel.cli.preflight import settings_in
from prelabel.errors import PromptError
from prelabel.labelstudio.labeling_config import LabelingConfig, parse_labeling_config
from prelabel.labelstudio.rest import LabelStudioAPI
from prelabel.labelstudio.task_rows import boxes_config
from prelabel.net.egress import Egress
from prelabel.offline.exports import Format
from prelabel.offline.items import InputError
from prelabel.offline.manifest import Manifest
from prelabel.offline.predictor import Search, version_of
from prelabel.offline.sources import Input, open_input
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.prompts.parser import split_prompt
from prelabel.prompts.resolver import check_known, check_readable, resolve_prompt
from prelabel.settings import AppSettings, Environment
from prelabel.types import PromptRequest


@dataclass(frozen=True, slots=True)
class InputOptions:
    """Options of `prelabel annotate --input`; input_command.py describes them."""

    input: str
    output: str
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
    ray: bool
    address: str | None
    engines: int | None
    block: int

    @property
    def folder(self) -> Path:
        """The output, if it is a folder."""
        return Path(self.output).expanduser()


@dataclass(frozen=True, slots=True)
class InputPlan:
    """A run that can begin."""

    settings: AppSettings
    search: Search
    config: LabelingConfig
    input: Input
    manifest: Manifest
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The labels of the config, in its order."""
        labels = [label.value for control in self.config.controls for label in control.labels]
        return list(dict.fromkeys(labels))


def plan_input(options: InputOptions, environment: Environment) -> InputPlan:
    """Return the run that the options mean.

    Raises:
        InputError, LabelStudioError, ModelError, LabelingConfigError, PromptError: It cannot begin.
    """
    settings = environment.override(settings_in(config_or_default(options.config)))
    search = _search(options, environment, settings)
    config = parse_labeling_config(
        search.label_config, settings.prompts.max_labels, masks=bool(settings.segmenter_name)
    )
    found = open_input(options.input, config, options.address_prefix)
    manifest = Manifest.of(found.name, version_of(settings), search, found.prefix)
    return InputPlan(
        settings, search, config, found, manifest, _check_prompt(search, config, settings)
    )


def _check_prompt(search: Search, config: LabelingConfig, settings: AppSettings) -> tuple[str, ...]:
    """Return sentences about the phrases of the prompt that are left out.

    Raises PromptError for a prompt that no task could be searched with.
    """
    text = search.prompt.prompt
    if text is None or config.template is not None:  # the tasks' data has labels then
        return ()
    card = load_card(settings.model.name)
    folder = text_encoder_folder(card, model_folder(card, settings.model.folder))
    vocabulary = Vocabulary.from_folder(folder)
    prompt = resolve_prompt(text, config, settings.prompts, vocabulary, typed=False, is_prompt=True)
    check_readable(prompt)
    check_known(prompt, config, settings.prompts)
    return tuple(f"{name} is not a label, and is not searched for." for name in prompt.unknown)


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
