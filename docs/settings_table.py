"""Writes the tables of settings between the markers in README.md; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from prelabel.settings import AppSettings, Environment

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- settings: written by `make docs` -->\n", "<!-- end of settings -->\n"


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
    """Rewrite the README, or say that it is out of date."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    written = f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"
    if "--check" in sys.argv and written != text:
        sys.exit("README.md's table of settings is out of date. Run `make docs`.")
    README.write_text(written)


if __name__ == "__main__":
    main()
