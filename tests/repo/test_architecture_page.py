"""docs/developer/architecture.md agrees with the tree and with the import contracts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.support.paths import ROOT, repository_files

PAGE = (ROOT / "docs" / "developer" / "architecture.md").read_text(encoding="utf-8")
MAPPED_IN_FULL = (
    "deployments",
    "jobs",
    "prelabel",
)  # every module has a line; elsewhere the folder does
ENTRY = re.compile(r"(?P<indent> *)(?P<name>\S+) +(?P<description>\S.*)")


def block_under(heading: str) -> list[str]:
    """Lines of the first fenced block under a heading."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    block = re.search(r"```text\n(.*?)```", section, re.DOTALL)
    assert block, f"docs/developer/architecture.md has no text block under {heading!r}"
    return block[1].splitlines()


def mapped_paths(lines: list[str]) -> list[str]:
    """Paths of the map; an entry's parent is the last folder above it with less indentation."""
    paths: list[str] = []
    folders: list[str] = []
    for line in lines:
        entry = ENTRY.fullmatch(line)
        assert entry, f"not of the form 'name  description': {line!r}"
        depth, odd = divmod(len(entry["indent"]), 2)
        assert not odd, f"indented by an odd number of spaces: {line!r}"
        assert depth <= len(folders), f"indented below no folder: {line!r}"
        del folders[depth:]
        path = "".join(folders) + entry["name"]
        paths.append(path)
        if path.endswith("/"):
            folders.append(entry["name"])
    return paths


def must_be_mapped(path: str) -> bool:
    """True for modules and C sources of the folders that are mapped in full."""
    in_full = path.split("/")[0] in MAPPED_IN_FULL
    return in_full and path.endswith((".py", ".c")) and not path.endswith("/__init__.py")


MAPPED = mapped_paths(block_under("Map of the tree"))


def test_parents_follow_from_the_indentation() -> None:
    lines = ["a.py  x", "b/  x", "  c/  x", "    d.py  x", "  e.py  x", "f.py  x"]
    assert mapped_paths(lines) == ["a.py", "b/", "b/c/", "b/c/d.py", "b/e.py", "f.py"]


def test_every_module_has_a_line() -> None:
    missing = {path for path in repository_files() if must_be_mapped(path)} - set(MAPPED)
    assert not missing, f"add to the map in docs/developer/architecture.md: {sorted(missing)}"


def test_every_package_and_every_folder_at_the_top_has_a_line() -> None:
    files = repository_files()
    packages = {
        f"{path.rpartition('/')[0]}/"
        for path in files
        if path.split("/")[0] in MAPPED_IN_FULL and path.endswith("/__init__.py")
    }
    top = {f"{path.split('/')[0]}/" for path in files if "/" in path and path[0] != "."}
    missing = (packages | top) - set(MAPPED)
    assert not missing, f"add to the map in docs/developer/architecture.md: {sorted(missing)}"


def test_every_line_of_the_map_is_a_file_or_a_folder_and_no_line_stands_twice() -> None:
    gone = [path for path in MAPPED if not (ROOT / path).exists()]
    assert not gone, f"remove from the map in docs/developer/architecture.md: {gone}"
    assert len(set(MAPPED)) == len(MAPPED)


def test_the_layers_are_those_of_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert block_under("Import rules") == layers


def test_links_lead_to_files_and_headings() -> None:
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if link.startswith(("http://", "https://")):
                continue
            name, _, heading = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page.relative_to(ROOT)}: {link}"
            assert not heading or heading in anchors_of(target), f"{page.relative_to(ROOT)}: {link}"


def anchors_of(page: Path) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
