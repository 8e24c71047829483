"""`--open`: shows a file or a folder in the program of the desktop."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from prelabel.cli.terminal import readable
from prelabel.settings.environment import DesktopEnvironment

_START_S = 10.0  # a program that runs longer shows the file


def open_result(path: Path, desktop: DesktopEnvironment) -> str | None:
    """Open a file or a folder. Return a sentence about why it is not shown; None if it is.

    Args:
        path: The file or the folder.
        desktop: Tells whether there is a display.
    """
    name = "open" if sys.platform == "darwin" else "xdg-open"
    elsewhere = f"Copy {readable(path)} to a machine that has one."
    if sys.platform != "darwin" and not desktop.has_display:
        return f"There is no display to open the result on. {elsewhere}"
    program = shutil.which(name)
    if program is None:
        return (
            f"The program {name} is missing (Debian: apt-get install xdg-utils). Open "
            f"{readable(path)}."
        )
    process = subprocess.Popen(  # noqa: S603 - the desktop's own program, with a path
        [program, path.resolve()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = process.wait(_START_S)
    except subprocess.TimeoutExpired:
        return None
    if status:
        return f"{name} cannot open the result (status {status}). Open {readable(path)} by hand."
    return None
