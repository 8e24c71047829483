"""Writes the environment that Ray's processes inherit from the command that starts them."""

from __future__ import annotations

import os

from prelabel.settings.paths import application_folder


def prepare_ray_environment() -> None:
    """Set the variables that the application needs, in this process, from which Ray's inherit them.

    The application's folder joins PYTHONPATH, because Ray's workers import `serve_app` by name.
    The variables of deploy/ray.env are set, unless the environment has them already.
    """
    folder = application_folder()
    paths = (os.environ.get("PYTHONPATH", ""), str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    for name, value in ray_variables().items():
        os.environ.setdefault(name, value)


def name_label_studio(url: str, token: str) -> None:
    """Set the variables of Label Studio's address and token in this process, over those it has."""
    os.environ["LABEL_STUDIO_HOST"] = url
    os.environ["LABEL_STUDIO_ACCESS_TOKEN"] = token


def ray_variables() -> dict[str, str]:
    """Return the variables of deploy/ray.env."""
    file = application_folder() / "deploy" / "ray.env"
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
