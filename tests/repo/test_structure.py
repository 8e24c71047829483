"""Sizes of files and functions, and the modules that stand alone at the top of the library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
TOP_MODULES = {"__init__", "boxes", "errors", "pipeline", "service", "types"}


def product_files() -> Iterator[Path]:
    yield ROOT / "serve_app.py"
    for folder in (
        "prelabel",
        "deployments",
        "jobs",
        "benchmarks",
        "deploy",
        "docs",
        "examples",
        "training",
    ):
        yield from sorted((ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_only_modules_that_name_the_architecture_stand_outside_of_packages() -> None:
    assert {path.stem for path in (ROOT / "prelabel").glob("*.py")} == TOP_MODULES


def test_no_file_is_too_long() -> None:
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in product_files()
    }
    assert len(lines) > 100
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {length} lines"
        for path in product_files()
        for function in functions(path)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert too_long == []
