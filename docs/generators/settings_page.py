"""The page of all settings, from their declarations."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from docs.generators.markdown_table import table
from prelabel.settings import AppSettings, Environment
from prelabel.settings.fields import Setting, iterate_settings

HEAD = """<!-- Written by `make docs` from prelabel/settings. -->
# Settings

This page is for operators who change `serve_config.yaml`. The shortest path: search for a word on
the page.

Values under `args:` in `serve_config.yaml`, in groups, and environment variables:

```yaml
args:
  detection:
    box_threshold: 0.4
```

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
        columns = ("setting", "default", "predictions", "meaning")
        yield from table(columns, map(_row, settings))
        yield ""


def _environment_lines() -> Iterator[str]:
    yield "## Environment variables"
    yield ""
    yield from table(
        ("variable", "meaning"),
        (
            (_variables(field), f"{field.description}")
            for field in Environment.model_fields.values()
        ),
    )


def _row(setting: Setting) -> tuple[str, ...]:
    name = setting.path.rpartition(".")[2]
    predictions = "change" if setting.changes_predictions else "stay"
    return f"`{name}`", f"`{_default(setting)}`", predictions, f"{setting.field.description}"


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
