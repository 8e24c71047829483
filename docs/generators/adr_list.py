"""The list of the decisions in docs/developer/adr."""

from __future__ import annotations

import re

from docs.generators.markdown_table import table
from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "developer" / "adr"


def decisions() -> str:
    """Return a table of the decisions: number, and title with a link."""
    rows = []
    for path in sorted(FOLDER.glob("0*.md")):
        title = re.match(r"# (\d+)\. (.+)\n", path.read_text(encoding="utf-8"))
        if title is None:
            raise ValueError(f"{path.name} does not begin with '# NUMBER. TITLE'.")
        rows.append((title[1], f"[{title[2]}]({path.name})"))
    return "\n".join(table(("number", "decision"), rows))
