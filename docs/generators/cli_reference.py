"""The reference of the `prelabel` command, from its declarations."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main

from docs.generators.markdown_table import table
from prelabel.cli.exit_status import MEANINGS
from prelabel.cli.main import app

# Commands and parameters as Typer builds them. Its classes for them are not public, hence Any.
Command = Any
Parameter = Any

_VALUES = {int: "integer", float: "number", str: "text", Path: "path"}


def commands() -> dict[str, Command]:
    """Return all commands by their names ("prelabel serve"), in the order of `prelabel --help`."""
    found: dict[str, Command] = {}
    _collect(typer.main.get_command(app), "prelabel", found)
    return found


def _collect(command: Command, name: str, found: dict[str, Command]) -> None:
    below = getattr(command, "commands", None)
    if below is None:
        found[name] = command
        return
    for each in below.values():
        if not each.hidden:
            _collect(each, f"{name} {each.name}", found)


def parameters(command: Command) -> list[Parameter]:
    """Return the options and arguments of a command that its --help shows, but --help itself."""
    return [
        each
        for each in command.params
        if each.name != "help" and not getattr(each, "hidden", False)
    ]


def is_option(parameter: Parameter) -> bool:
    """Return True for an option, False for an argument."""
    return bool(parameter.opts[0].startswith("-"))


def exit_statuses() -> str:
    """Return the table of the exit statuses of all commands."""
    rows = ((str(status), meaning) for status, meaning in MEANINGS.items())
    return "\n".join(table(("status", "meaning"), rows))


def reference() -> str:
    """Return the reference in Markdown: a section for each command."""
    return "\n".join(line for name, each in commands().items() for line in _section(name, each))


def _section(name: str, command: Command) -> Iterator[str]:
    shown = parameters(command)
    arguments = [_argument(each) for each in shown if not is_option(each)]
    required = [f"{each.opts[0]} {_value(each).upper()}" for each in shown if _must(each)]
    yield f"### {name}"
    yield ""
    yield _text(command.help or "")
    yield ""
    yield "```text"
    yield " ".join([name, *arguments, *required, "[options]"])
    yield "```"
    yield ""
    if shown:
        yield from table(("option", "value", "default", "meaning"), map(_row, shown))
        yield ""


def _must(parameter: Parameter) -> bool:
    return is_option(parameter) and bool(parameter.required)


def _argument(parameter: Parameter) -> str:
    name = (parameter.metavar or parameter.name).upper()
    name += "..." if parameter.nargs != 1 and not name.endswith("...") else ""
    return name if parameter.required else f"[{name}]"


def _row(parameter: Parameter) -> tuple[str, str, str, str]:
    meaning = _text(getattr(parameter, "help", None) or "")
    if not is_option(parameter):
        return f"`{_argument(parameter)}`", _value(parameter), _default(parameter), meaning
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag or parameter.is_bool_flag else _value(parameter)
    return names, value, _default(parameter), meaning + (" Required." if _must(parameter) else "")


def _value(parameter: Parameter) -> str:
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is list:
        [kind] = get_args(kind)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(f"`{choice.value}`" for choice in kind)
    word = _VALUES.get(kind, getattr(kind, "__name__", "text").lower())
    if parameter.min is not None and parameter.max is not None:
        return f"{word}, {parameter.min:g} to {parameter.max:g}"
    return word if parameter.min is None else f"{word}, from {parameter.min:g}"


def _default(parameter: Parameter) -> str:
    default = parameter.default
    if isinstance(default, enum.Enum):
        default = default.value
    if isinstance(default, bool):
        return "on" if default else ""
    shown = isinstance(default, str | int | float | Path) and default != ""
    return f"`{default}`" if shown else ""


def _text(help_text: str) -> str:
    """Return a help text as Markdown: without marks for the terminal."""
    text = inspect.cleandoc(help_text.partition("\f")[0])
    text = re.sub(r"\[/?(?:bold|dim|italic|cyan|green|red|yellow)\]", "", text)
    return text.replace("\b\n", "").replace("<", "&lt;").replace("*", "\\*")
