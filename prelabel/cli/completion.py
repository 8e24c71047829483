"""Completion of commands, options and models in a shell."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.completion import completion_init, get_completion_script

_CHECKPOINTS: Final = Path(__file__).parents[1] / "checkpoints"
_COMMAND, _VARIABLE = "prelabel", "_PRELABEL_COMPLETE"


class Shell(StrEnum):
    """A shell that can complete the words of a command."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def prepare_completion() -> None:
    """Let the command answer the questions of the scripts that `completion` prints."""
    completion_init()


def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the script that lets a shell complete commands, options and names of models."""
    script = get_completion_script(prog_name=_COMMAND, complete_var=_VARIABLE, shell=shell.value)
    typer.echo(script)


def complete_model(incomplete: str) -> list[str]:
    """Return the names of shipped model cards that begin so, without reading the cards."""
    cards = [*_CHECKPOINTS.glob("*.yaml"), *(_CHECKPOINTS / "segmenters").glob("*.yaml")]
    return sorted(card.stem for card in cards if card.stem.startswith(incomplete))
