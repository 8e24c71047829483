"""`prelabel preflight`: checks settings, model, prompt store and ports without starting Ray."""

from __future__ import annotations

import errno
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prelabel.checkpoints.cards import (
    check_installed,
    installed_segmenter,
    load_card,
    model_folder,
    text_encoder_folder,
)
from prelabel.checkpoints.image_size import size_warning
from prelabel.errors import PrelabelError, PromptMemoryError
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.prompts.storage import FileStorage, open_storage
from prelabel.settings import (
    AppSettings,
    Environment,
    PromptSettings,
    ServeEnvironment,
    read_environment,
)
from prelabel.settings.faults import first_fault, own_sentence


class PreflightError(PrelabelError):
    """The service cannot start with this config or environment."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Http(_Part):
    host: str = "127.0.0.1"
    port: int = 8000


class _Application(_Part):
    args: AppSettings = AppSettings()


class _ServeConfig(_Part):
    http_options: _Http = _Http()
    applications: tuple[_Application, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Summary:
    """The service that a Serve config file starts.

    Attributes:
        config: The file.
        model: Name of the detector.
        segmenter: Name of the segmenter; empty without masks.
        device: The setting.
        host: Where the service listens.
        port: The port.
        warnings: Sentences about what is probably not meant.
    """

    config: Path
    model: str
    segmenter: str
    device: str
    host: str
    port: int
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, object]:
        """Return the values for a program."""
        return {**asdict(self), "config": str(self.config)}

    def sentence(self) -> str:
        """Return the values for people, without the warnings."""
        masks = f"masks by {self.segmenter}" if self.segmenter else "no masks"
        return (
            f"{self.config} can be served: model {self.model} (device {self.device}), {masks}, at "
            f"http://{self.host}:{self.port}."
        )


def summary_of(config: Path) -> Summary:
    """Return the service that a Serve config file starts, with the environment's values.

    Raises PreflightError if the file cannot be read or is wrong, and ModelError for an unknown
    model.
    """
    parsed = _read(config)
    settings = read_environment().override(parsed.applications[0].args)
    card = load_card(settings.model.name)
    warning = size_warning(card, model_folder(card, settings.model.folder))
    return Summary(
        config,
        settings.model.name,
        settings.segmenter_name,
        settings.model.device,
        parsed.http_options.host,
        parsed.http_options.port,
        (warning,) if warning else (),
    )


def preflight(config: Path) -> None:
    """Check the settings, models, prompt stores and ports of a Serve config file.

    Raises:
        PreflightError: The config or an environment variable is wrong, or a port is in use.
        ModelError: A model is unknown or not installed, or lacks its tokenizer.
    """
    parsed = _read(config)
    environment = read_environment()
    for application in parsed.applications:
        settings = environment.override(application.args)
        card = load_card(settings.model.name)
        folder = model_folder(card, settings.model.folder)
        check_installed(card, folder)
        Vocabulary.from_folder(text_encoder_folder(card, folder))  # reads the tokenizer
        installed_segmenter(settings)
        _check_memory(settings.prompts, environment, config)
    where = f"under http_options in {config}"
    check_port(parsed.http_options.host, parsed.http_options.port, where)
    serve = ServeEnvironment()
    if serve.enable_ha_proxy:
        for variable, port in serve:
            if variable.endswith("_port"):
                check_port("127.0.0.1", port, f"in RAY_SERVE_{variable.upper()}")


def settings_in(config: Path) -> AppSettings:
    """Return the settings of the first application of a Serve config file.

    Raises PreflightError if the file cannot be read or is wrong.
    """
    return _read(config).applications[0].args


def _read(config: Path) -> _ServeConfig:
    try:
        return _ServeConfig.model_validate(yaml.safe_load(config.read_text()))
    except FileNotFoundError as error:
        raise PreflightError(f"There is no file {config}. Give a Serve config file.") from error
    except yaml.YAMLError as error:
        raise PreflightError(f"{config} is not valid YAML: {error}. Correct it.") from error
    except ValidationError as error:
        raise PreflightError(_wrong_config(config, error)) from error


def _wrong_config(config: Path, error: ValidationError) -> str:
    # A validator's own sentence already says how to correct the value.
    cure = "" if own_sentence(error) else " Correct it."
    return f"{config} is wrong at {first_fault(error)}.{cure}"


def _check_memory(settings: PromptSettings, environment: Environment, config: Path) -> None:
    """Open the prompts file as the service will. Redis is not contacted: it may start later."""
    try:
        storage = open_storage(settings, environment)
    except PromptMemoryError as error:
        if environment.prompts_redis_url is not None:
            raise PreflightError(str(error)) from error
        raise PreflightError(
            f"prompts.file is {settings.file}, which cannot be used "
            f"({_reason(error)}). Under args in {config}, set prompts.file to a file in a folder "
            "that can be written, or prompts.remember to false; or keep prompts in Redis, with "
            "PROMPTS_REDIS_URL."
        ) from error
    if isinstance(storage, FileStorage):
        storage.close()


def _reason(error: PromptMemoryError) -> str:
    cause = error.__cause__
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)


def check_port(host: str, port: int, where: str) -> None:
    """Raise PreflightError if a port cannot be listened on. where: how to set another port."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # As servers do: connections of a service that just ended would count as in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PreflightError(
                f"Port {port} on {host} is in use. Stop the process that listens there, or set "
                f"another port {where}."
            ) from error
        raise PreflightError(
            f"Cannot listen on {host}:{port} ({error.strerror}). Set another host or port {where}."
        ) from error
