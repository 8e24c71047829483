"""Write docs/operator/settings.md from the settings' declarations; `--check` only compares."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from prelabel.settings import AppSettings, Environment
from prelabel.settings.fields import Setting, iterate_settings

PAGE = Path(__file__).resolve().with_name("operator") / "settings.md"
HEAD = """<!-- Written by `make docs` from prelabel/settings. -->
# Settings

Values under `args:` in `serve_config.yaml`, in groups, and environment variables:

    args:
      detection:
        box_threshold: 0.4

Unknown names and wrong values are refused when deploying, and the old application keeps serving.
A setting that can change predictions ("change" in the column "predictions") is part of the model
version: Label Studio asks for predictions again after it has changed. Ray Serve's own options
(replicas, autoscaling, queues, the port) are in `serve_config.yaml`, each with its reason.
"""


def page() -> str:
    """Return the page in Markdown: a table for each group, then the environment variables."""
    return "\n".join([HEAD, *_settings_lines(), *_environment_lines()]) + "\n"


def _settings_lines() -> Iterator[str]:
    # Settings outside a group are declared after the groups, and their table comes last, too.
    for group, settings in itertools.groupby(iterate_settings(AppSettings()), key=_group):
        yield f"## {group}" if group else "## Outside the groups"
        yield ""
        if group:
            yield f"{type(getattr(AppSettings(), group)).__doc__}"
            yield ""
        yield "| setting | default | predictions | meaning |"
        yield "|---|---|---|---|"
        for setting in settings:
            name = setting.path.rpartition(".")[2]
            predictions = "change" if setting.changes_predictions else "stay"
            meaning = setting.field.description
            yield f"| `{name}` | `{_default(setting)}` | {predictions} | {meaning} |"
        yield ""


def _environment_lines() -> Iterator[str]:
    yield "## Environment variables"
    yield ""
    yield "| variable | meaning |"
    yield "|---|---|"
    for field in Environment.model_fields.values():
        yield f"| {_variables(field)} | {field.description} |"


def _group(setting: Setting) -> str:
    return setting.path.rpartition(".")[0]


def _default(setting: Setting) -> str:
    """Return the default as YAML writes it; a text without quotes unless it is empty."""
    value = setting.value
    return value if isinstance(value, str) and value else json.dumps(value)


def _variables(field: FieldInfo) -> str:
    alias = field.validation_alias
    names = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return " or ".join(f"`{name}`" for name in names)


def main() -> None:
    """Write the page, or exit with an error if `--check` finds that it is out of date."""
    written = page()
    if "--check" not in sys.argv:
        PAGE.write_text(written, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != written:
        sys.exit("docs/operator/settings.md is out of date. Run `make docs`.")


if __name__ == "__main__":
    main()
