"""Writes docs/settings.md; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from prelabel.settings.application import AppSettings, Environment

PAGE = Path(__file__).resolve().with_name("settings.md")
HEAD = """<!-- Written by `make docs` from prelabel/settings/application.py. -->
# Settings

Values under `args:` in `serve_config.yaml`, and environment variables. Wrong names or values are
refused when deploying, and the old application goes on serving. Ray Serve's own options (replicas,
autoscaling, queues, the port) stand in `serve_config.yaml`, each with its reason.
"""


def tables() -> str:
    """Both tables in Markdown: the YAML's settings, then the environment's variables."""
    lines = ["| setting under `args:` | default | meaning |", "|---|---|---|"]
    for name, field in AppSettings.model_fields.items():
        lines.append(f"| `{name}` | `{_default(field)}` | {field.description} |")
    lines += ["", "| environment variable | meaning |", "|---|---|"]
    for field in Environment.model_fields.values():
        lines.append(f"| {_names(field)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    return "[]" if field.default == () else str(field.default)


def _names(field: FieldInfo) -> str:
    alias = field.validation_alias
    names = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return " or ".join(f"`{name}`" for name in names)


def main() -> None:
    """Write the page, or say that it is out of date."""
    written = f"{HEAD}\n{tables()}"
    if "--check" not in sys.argv:
        PAGE.write_text(written, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != written:
        sys.exit("docs/settings.md is out of date. Run `make docs`.")


if __name__ == "__main__":
    main()
