"""Runs the application with `serve run`, for `prelabel serve`."""

from __future__ import annotations

import sys
from pathlib import Path

from prelabel.cli.preflight import preflight
from prelabel.cli.supervisor import supervise
from prelabel.settings.paths import application_folder
from prelabel.settings.ray_environment import prepare_ray_environment

_CONFIG_NAME = "serve_config.yaml"


def config_or_default(config: Path | None) -> Path:
    """Return the named Serve config; if none is named, ./serve_config.yaml or else the shipped one.

    The shipped config serves the embedded demo model.
    """
    if config is not None:
        return config
    local = Path(_CONFIG_NAME)
    return local if local.is_file() else application_folder() / _CONFIG_NAME


def checked_config(config: Path | None) -> Path:
    """Return the config that `config_or_default` chooses, once it has passed the preflight.

    Sets Ray's variables in this process, because the preflight reads the ports that they name.
    Raises PreflightError, SettingsError and ModelError, as `preflight` does.
    """
    prepare_ray_environment()
    config = config_or_default(config)
    preflight(config)
    return config


def run_application(config: Path) -> int:
    """Run `serve run` with the config until it ends; return its exit status."""
    return supervise([Path(sys.executable).with_name("serve"), "run", config])
