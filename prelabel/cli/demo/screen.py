"""The text that the demo prints once it is ready: address, account, and what to try."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from prelabel.cli.demo.account import Account
from prelabel.cli.demo.projects import ReadyProject
from prelabel.cli.terminal import print_line

_MAX_WIDTH: Final = 100


def show_ready(
    projects: Sequence[ReadyProject], account: Account | None, browser_url: str, console: Console
) -> None:
    """Print how to log in, and of each project its first task and what to do there.

    account: None for a Label Studio whose users have accounts of their own.
    """
    lines = ["", f"Label Studio  {browser_url}"]
    if account is not None:
        lines += [
            f"user          {account.user}",
            f"password      {account.password.get_secret_value()}",
        ]
    lines.append("")
    for project in projects:
        lines += [f"{project.demo.title}  {project.address}", *_wrapped(project, console), ""]
    for line in lines:
        print_line(line, console)


def shown_path(path: Path) -> Path:
    """Return a path as it is shortest: below the working directory without the way to it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _wrapped(project: ReadyProject, console: Console) -> list[str]:
    """Return the lines that say what to do, indented, no wider than the terminal."""
    width = min(console.width, _MAX_WIDTH) if console.is_terminal else _MAX_WIDTH
    indent = "  "
    return textwrap.wrap(
        project.demo.to_try, width, initial_indent=indent, subsequent_indent=indent
    )


def facts_of(
    projects: Sequence[ReadyProject], account: Account | None, browser_url: str
) -> dict[str, object]:
    """Return the same for a program."""
    login = {}
    if account is not None:
        login = {"user": account.user, "password": account.password.get_secret_value()}
    listed = [
        {
            "project": each.number,
            "title": each.demo.title,
            "address": each.address,
            "added": each.is_new,
            "boxes": each.boxes,
            "masks": each.masks,
        }
        for each in projects
    ]
    return {"label_studio": browser_url, **login, "projects": listed}
