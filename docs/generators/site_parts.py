"""Write the parts of the site that are not in git, for docs/generators/site_hooks.py.

They are the references of the command and of the HTTP API, and the plots of the benchmarks.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generators import api_reference, cli_reference, plots

PARTS: Mapping[str, Callable[[], str]] = {
    "api": api_reference.reference,
    "commands": cli_reference.reference,
    **plots.PLOTS,
}


def write(folder: Path) -> None:
    """Write each part to NAME.md in the folder, after its old content is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, part in PARTS.items():
        (folder / f"{name}.md").write_text(f"{part()}\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
