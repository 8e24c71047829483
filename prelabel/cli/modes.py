"""One command with two modes: each is a function with its own options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer

Mode = Callable[..., None]


def two_modes(usual: Mode, special: Mode, switch: str) -> Mode:
    """Return a command with the options of two functions, which calls one of them.

    Options that both have are declared by the usual one.

    Args:
        usual: Called without the option `switch`. Its docstring is the command's.
        special: Called with it.
        switch: Parameter of `special`; None by default.
    """
    of_usual, of_special = (
        inspect.signature(mode, eval_str=True).parameters for mode in (usual, special)
    )

    def command(**given: Any) -> None:
        is_special = given[switch] is not None
        mode, own, other = (
            (special, of_special, of_usual) if is_special else (usual, of_usual, of_special)
        )
        _refuse_foreign(given, own, other, switch, is_special=is_special)
        mode(**{name: given[name] for name in own})

    merged = {**of_special, **of_usual}
    ordered = [merged[name] for name in dict.fromkeys([*of_usual, *of_special])]
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in ordered}
    command.__name__, command.__doc__ = usual.__name__, usual.__doc__
    return command


def _refuse_foreign(
    given: Mapping[str, Any],
    own: Mapping[str, inspect.Parameter],
    other: Mapping[str, inspect.Parameter],
    switch: str,
    *,
    is_special: bool,
) -> None:
    for name, parameter in other.items():
        if name not in own and given[name] != parameter.default and _is_option(parameter):
            relation = "cannot be used with" if is_special else "needs"
            raise typer.BadParameter(f"--{name.replace('_', '-')} {relation} --{switch}.")


def _is_option(parameter: inspect.Parameter) -> bool:
    """Return False for options that an environment variable may have set."""
    declared = getattr(parameter.annotation, "__metadata__", ())
    return not any(getattr(each, "envvar", None) for each in declared)
