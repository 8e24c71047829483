"""The packages that the product imports are declared, and the imported modules public."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.support.paths import ROOT

SOURCES = (
    ROOT / "serve_app.py",
    *sorted((ROOT / "deployments").rglob("*.py")),
    *sorted((ROOT / "prelabel").rglob("*.py")),
)
OWN = {"prelabel", "deployments"}

# Declared, but not imported by the product itself.
NOT_IMPORTED = {
    "torchvision": "groundingdino-py imports it, and requires no version that fits torch's",
    "setuptools": "torch compiles with it, and a source distribution among the locked is built",
}
# Import paths with a private component, and why there is no public one.
PRIVATE: dict[str, str] = {}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    lines = (ROOT / "requirements" / "serve.in").read_text().splitlines()
    return {normalized(re.split(r"[^\w.-]", line)[0]) for line in lines if line[:1].isalpha()}


def imported(path: Path) -> Iterator[str]:
    """Dotted paths of all imports of a file, also of those in functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


THIRD_PARTY = sorted(
    {
        name
        for path in SOURCES
        for name in imported(path)
        if name.split(".")[0] not in sys.stdlib_module_names | OWN
    }
)


def test_every_import_of_the_product_is_declared_and_nothing_else_is() -> None:
    owners = packages_distributions()
    # Several distributions share the namespace `opentelemetry`: any of them that is declared.
    needed = {
        owner
        for name in THIRD_PARTY
        for owner in ({normalized(owner) for owner in owners[name.split(".")[0]]})
        if owner in declared() or len(owners[name.split(".")[0]]) == 1
    }
    assert needed - declared() == set()
    assert declared() - needed == set(NOT_IMPORTED)


def test_no_import_goes_through_a_private_module() -> None:
    private = {
        name
        for name in THIRD_PARTY
        if any(part.startswith("_") and not part.endswith("__") for part in name.split("."))
    }
    assert private == set(PRIVATE)


def test_the_wheel_lists_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = (path.parent for path in (ROOT / "prelabel").rglob("__init__.py"))
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    packages |= {f"prelabel.application{part}" for part in ("", ".deployments", ".jobs")}
    assert sorted(settings["packages"]) == sorted(packages)
