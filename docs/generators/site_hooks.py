"""Hooks of MkDocs: pages of the site that lie outside of docs/, and generated parts of pages.

Links in docs/ lead to files as they lie in the repository, so that they work there, too. A linked
file outside of docs/ becomes a page of the site below `repository/`: Markdown as it is, other
files as a listing. A place in a page of the form

    <!-- insert: NAME -->text for readers of the repository<!-- end of insert -->

gets the content of artifacts/docs/NAME.md, which `make docs-site` has generated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATED = ROOT / "artifacts" / "docs"
REPOSITORY = "repository"
# Pages of the navigation that no other page has to link to.
IN_NAVIGATION = ("CONTRIBUTING.md", "CHANGELOG.md", "training/README.md")

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"(^ *(`{3,}).*?^ *\2 *$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_INSERT = re.compile(r"<!-- insert: ([\w-]+) -->.*?<!-- end of insert -->", re.DOTALL)
_OUTSIDE = re.compile(r"[a-z]+:|#|/", re.IGNORECASE)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".c": "c"}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the generated pictures, and the pages of linked files outside of docs/."""
    for path in sorted((GENERATED / "assets").glob("*")):
        files.append(File.generated(config, f"assets/{path.name}", abs_src_path=str(path)))
    for path in _linked_files():
        files.append(File.generated(config, _site_path(path), content=_page_of(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Insert the generated parts, and let the links lead to pages of the site."""
    # In searches, the pages of the user guide precede the long ones of the other guides.
    if page.file.src_uri.startswith("user/"):
        page.meta.setdefault("search", {"boost": 3})
    return _with_site_links(_INSERT.sub(_part, markdown), page.file.src_uri)


def _part(match: re.Match[str]) -> str:
    path = GENERATED / f"{match[1]}.md"
    if not path.is_file():
        raise PluginError(
            f"There is no {path.relative_to(ROOT)}. Build the site by `make docs-site`."
        )
    return path.read_text(encoding="utf-8")


def _linked_files() -> list[Path]:
    """Return the files and folders outside of docs/ that pages link to, also those pages."""
    pages = sorted(DOCS.rglob("*.md")) + [ROOT / name for name in IN_NAVIGATION]
    found = {ROOT / name for name in IN_NAVIGATION}
    while pages:
        page = pages.pop()
        for target in _targets(page):
            if not target.is_relative_to(DOCS) and target not in found:
                found.add(target)
                if target.suffix == ".md":
                    pages.append(target)
                elif target.is_dir():
                    found.update(_files_of(target))
    return sorted(found)


def _targets(page: Path) -> Iterator[Path]:
    for text in _without_code(page.read_text(encoding="utf-8")):
        for match in _LINK.finditer(text):
            if not _OUTSIDE.match(match[2]):
                target = _resolved(match[2].partition("#")[0], page.parent)
                if target.exists() and target.is_relative_to(ROOT):
                    yield target


def _files_of(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and _is_text(path))


def _is_text(path: Path) -> bool:
    return b"\0" not in path.read_bytes()[:1024] and "__pycache__" not in path.parts


def _page_of(path: Path) -> str:
    """Return the page of a file or a folder outside of docs/, in Markdown."""
    name = path.relative_to(ROOT).as_posix()
    head = "---\nsearch:\n  exclude: true\n---\n"
    if path.suffix == ".md":
        return head + path.read_text(encoding="utf-8")
    if path.is_dir():
        listed = (
            f"- [{each.relative_to(path)}]({name}/{each.relative_to(path)})"
            for each in _files_of(path)
        )
        # The links begin at the root of the repository, where the folder's page pretends to lie.
        return f"{head}# {name}/\n\n" + "\n".join(listed) + "\n"
    language = _LANGUAGES.get(path.suffix, "text")
    return f"{head}# {name}\n\n````{language}\n{path.read_text(encoding='utf-8')}\n````\n"


def _site_path(path: Path) -> str:
    """Return the path of a repository's file or folder in the site's sources."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    return f"{REPOSITORY}/{name}" if path.suffix == ".md" else f"{REPOSITORY}/{name}.md"


def _origin(src_uri: str) -> Path:
    """Return the folder to which the links of a page of the site are relative."""
    inside = src_uri.removeprefix(f"{REPOSITORY}/")
    if inside == src_uri:
        return (DOCS / src_uri).parent
    listed = ROOT / inside.removesuffix(".md")
    return ROOT if listed.is_dir() else (ROOT / inside).parent


def _with_site_links(markdown: str, src_uri: str) -> str:
    origin, here = _origin(src_uri), Path(src_uri).parent

    def led(match: re.Match[str]) -> str:
        name, mark, heading = match[2].partition("#")
        if _OUTSIDE.match(match[2]) or not name:
            return match[0]
        target = _resolved(name, origin)
        if not target.exists() or not target.is_relative_to(ROOT):
            return match[0]
        if target.is_dir() and target.is_relative_to(DOCS):
            target /= "index.md"
        return f"{match[1]}{os.path.relpath(_site_path(target), here)}{mark}{heading}{match[3]}"

    parts = _CODE.split(markdown)
    # Of each match, split returns the text, the code and the fence in it.
    texts = (part if index % 3 else _LINK.sub(led, part) for index, part in enumerate(parts))
    return "".join(text for index, text in enumerate(texts) if index % 3 != 2)


def _without_code(markdown: str) -> list[str]:
    return _CODE.split(markdown)[::3]


def _resolved(name: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder / name))
