"""Paths of the project's files, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# The checkout; in an installed wheel site-packages, where nothing is written.
PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]
# Only a wheel has this folder: pyproject.toml puts serve_app.py, deployments/ and so on there.
_PACKAGED_APPLICATION: Final = PROJECT_ROOT / "prelabel" / "application"


def application_folder() -> Path:
    """Return the folder that holds serve_app.py, serve_config.yaml and deployments/."""
    return _PACKAGED_APPLICATION if _PACKAGED_APPLICATION.is_dir() else PROJECT_ROOT


def resolve_path(path: str | Path) -> Path:
    """Return the absolute path that a setting or an option means.

    A relative path counts from the checkout, whatever the working directory is: replicas and
    commands then mean the same file. An installed wheel has no checkout; there, a relative path
    counts from the working directory, which Ray's workers inherit from `prelabel serve`.
    """
    base = Path.cwd() if _PACKAGED_APPLICATION.is_dir() else PROJECT_ROOT
    return base / Path(path).expanduser()
