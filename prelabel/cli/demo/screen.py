"""The text that the demo prints once it is ready: address, account, and what to try."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from prelabel.cli.demo.account import Account
from prelabel.cli.demo.projects import ReadyProject
from prelabel.cli.terminal import print_line


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
        lines += [f"{project.demo.title}  {project.address}", f"  {project.demo.to_try}", ""]
    for line in lines:
        print_line(line, console)
