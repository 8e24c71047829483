"""Write the generated parts of the pages in git; `--check` only compares.

docs/operator/settings.md is generated as a whole. In other pages, a part stands between

    <!-- generated: NAME -->
    <!-- end of generated -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator

from docs.generators import (
    adr_list,
    cli_reference,
    gallery_page,
    metrics_tables,
    model_tables,
    settings_page,
)
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
SETTINGS = "operator/settings.md"
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "user/models.md": {
        "detectors": model_tables.detectors,
        "segmenters": model_tables.segmenters,
        "sources": model_tables.sources,
    },
    "user/commands.md": {"exit-statuses": cli_reference.exit_statuses},
    "user/gallery.md": {"gallery": gallery_page.page},
    "operator/operations.md": {
        "metrics": metrics_tables.metrics,
        "alerts": metrics_tables.alerts,
    },
    "developer/adr/index.md": {"decisions": adr_list.decisions},
}


def written() -> Iterator[tuple[str, str]]:
    """Yield each page with generated parts: its path in docs/ and its text as it should be."""
    yield SETTINGS, settings_page.page()
    for path, parts in PARTS.items():
        text = (DOCS / path).read_text(encoding="utf-8")
        for name, part in parts.items():
            text = with_part(text, name, part())
        yield path, text


def with_part(text: str, name: str, part: str) -> str:
    """Return the page with another generated part. Raise ValueError if the page lacks its place."""
    begin, end = f"<!-- generated: {name} -->", "<!-- end of generated -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"The page needs one place for {begin}.")
    return pattern.sub(lambda _: f"{begin}\n\n{part.strip()}\n\n{end}", text)


def main() -> None:
    """Write the pages, or exit with an error if `--check` finds one that is out of date."""
    for path, text in written():
        page = DOCS / path
        if "--check" not in sys.argv:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{path} is out of date. Run `make docs`.")


if __name__ == "__main__":
    main()
