"""Docstrings, comments and pages follow the rules of language in CONTRIBUTING.md.

Only what a pattern can tell with few false alarms is checked. Text in backticks and code blocks is
left out. Each finding has the form `file:line: rule: matched text`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT, repository_files

# Generated tables of figures, and credits in the words of their authors.
LEFT_OUT = ("benchmarks/results/", "examples/demo/ATTRIBUTION.md")

AUXILIARY = (
    r"(?:is|are|was|were|has|have|had|does|do|did|can|cannot|could|may|might|must|will|would)"
)
PRONOUN = r"(?:it|they|there|nothing|none|this|that|these|those)"
NO_SUBJECT = r"(?!(?:what|which|some|example|instance|now)\b)"
SUBJECT = rf"{NO_SUBJECT}\w[\w']*(?:\s+(?!(?:that|which|who|what|to|and)\b)\w[\w']*){{0,3}}"
ACTIVE = r"(?:needs?|takes?|makes?|gives?|knows?|costs?|comes?|goes|gets?|holds?|reads?|runs?)"


@dataclass(frozen=True)
class Rule:
    """A sentence for the author, and the pattern of what breaks the rule.

    opening: the pattern is matched at the begin of docstrings only, not searched everywhere.
    """

    sentence: str
    pattern: str
    opening: bool = False

    def matches(self, passage: Passage) -> Iterator[re.Match[str]]:
        """All places of a passage that break the rule."""
        if not self.opening:
            yield from re.finditer(self.pattern, passage.text, re.IGNORECASE)
        elif passage.is_docstring and (match := re.match(rf"\s*{self.pattern}", passage.text)):
            yield match


@dataclass(frozen=True)
class Passage:
    """A docstring, a block of comment lines, or a page. line: of its begin in the file."""

    text: str
    line: int
    is_docstring: bool = False


RULES = [
    Rule(
        "processes, requests and hosts are named or 'it'; people are named by their role",
        r"\b(?:nobody|somebody|everybody|anybody|whoever|strangers?|whom)\b",
    ),
    Rule(
        "'who' stands only after annotators, users, operators, maintainers or developers",
        r"(?<!annotator )(?<!annotators )(?<!user )(?<!users )(?<!operators )(?<!maintainers )"
        r"(?<!developers )\bwho\b",
    ),
    Rule("no 'he' or 'she'", r"\b(?:he|him|his|himself|she|her|hers|herself)\b"),
    Rule(
        "a docstring begins with a verb ('Return True if ...') or a noun, not with a clause",
        r"(?:What|Whatever|Whether|Whose|Who|Whom|Where|Which|Why|How)\b",
        opening=True,
    ),
    Rule(
        "a docstring can be understood alone: it begins with no pronoun and no fragment",
        r"(?:The same|Those|That|It|They|Of)\b",
        opening=True,
    ),
    Rule(
        "a docstring says what its object is; it does not only point elsewhere",
        r"See\b[^.;]*(?:\.\w[^.;]*)*\.?\s*\Z",
        opening=True,
    ),
    Rule(
        "a sentence begins with a noun in place of 'What ...'",
        r"(?:\A|(?<=[.:;!]\s)|(?<=\n\n))\s*(?-i:What(?:ever)?)\b[^.?]*(?:[.:;]|\Z)",
    ),
    Rule(
        "a noun in place of 'of what is ...'",
        r"\bof what (?:is|are|was|were|has|have|had)\b",
    ),
    Rule(
        "'because' gives a reason, not 'for'",
        rf"[,;:]\s+for\s+(?:{PRONOUN}\s+(?:{AUXILIARY}|{ACTIVE}|\w+ed)|{SUBJECT}\s+{AUXILIARY})\b",
    ),
    Rule(
        "plain words in place of archaic ones",
        r"\b(?:lest|whence|thereof|none of our business|of ours|when the time has come"
        r"|so it is with|so with the|at hand|goes on|(?:is|are) to go"
        r"|(?<!there )(?:is|are|was|were) (?:(?-i:none)|for nothing))\b",
    ),
]

BROKEN = {
    "nobody's body is read": "people are named",
    "a process who asks": "'who' stands only",
    "the caller takes his items": "no 'he'",
    "What came together goes together.": "in place of 'What",
    "most of what is left": "in place of 'of what is",
    "no cache, for it costs memory": "'because'",
    "it is slow, for Serve is asked first": "'because'",
    "read early, lest it change": "archaic",
    "the picture at hand": "archaic",
}
BROKEN_DOCSTRINGS = {
    "Whether a predict is answered.": "not with a clause",
    "How long a batch takes, in seconds.": "not with a clause",
    "The same for a list.": "can be understood alone",
    "See `Journal.note`.": "point elsewhere",
    "See prelabel/journal.py.": "point elsewhere",
}
KEPT = [
    "Return True if the annotators who typed it are waiting, for example in a project.",
    "Two threads, for decoding and for the host that serves pictures.",
    "The label `whose` is code, and `nobody` is too.",
    "Fetch a picture. See ADR 4 for the reasons.",
    "See the page, which explains the cache. Then call it.",
    "The prompt says what it is; what is it?",
    "A comment: the value is None, and none of them is empty.",
]


def findings(path: str) -> list[str]:
    """All findings in a file, in the order of its lines."""
    content = (ROOT / path).read_text(encoding="utf-8")
    passages = (
        [page(content)] if path.endswith(".md") else [*docstrings(content), *comments(content)]
    )
    found: dict[tuple[int, int], str] = {}  # by place: the first rule that it breaks is enough
    for passage in passages:
        for rule in RULES:
            for match in rule.matches(passage):
                at = match.end() - len(match[0].lstrip())
                line = passage.line + passage.text.count("\n", 0, at)
                matched = " ".join(match[0].split())[:60]
                found.setdefault((line, at), f"{path}:{line}: {rule.sentence}: {matched!r}")
    return [found[place] for place in sorted(found)]


def docstrings(content: str) -> Iterator[Passage]:
    """Docstrings of a module, its classes and functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield Passage(without_code(value.value), value.lineno, is_docstring=True)


def comments(content: str) -> Iterator[Passage]:
    """Comments; those that stand below each other at one column are one passage."""
    block: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, column = token.start
        if block and block[-1].start != (line - 1, column):
            yield comment_block(block)
            block = []
        block.append(token)
    if block:
        yield comment_block(block)


def comment_block(tokens: list[tokenize.TokenInfo]) -> Passage:
    """The text of comments without their signs."""
    lines = [token.string.lstrip("#! ") for token in tokens]
    return Passage(without_code("\n".join(lines)), tokens[0].start[0])


def page(content: str) -> Passage:
    """A Markdown page without code blocks and link targets; its line numbers stay."""
    content = re.sub(r"(?ms)^ *```.*?^ *```", blank, content)
    content = re.sub(r"(?ms)^<!--.*?-->", blank, content)
    content = re.sub(r"(?m)(?<=\n\n)(?: {4,}\S.*\n?)+", blank, content)
    content = re.sub(r"\]\([^)]*\)", blank, content)
    return Passage(without_code(content), 1)


def without_code(text: str) -> str:
    """The text with dots in place of what stands in backticks."""
    return re.sub(r"`[^`]+`", blank, text)


def blank(match: re.Match[str]) -> str:
    """As many signs, which match no rule, and the same line breaks."""
    return re.sub(r"[^\n]", "·", match[0])


def checked_files() -> list[str]:
    """Python files and pages of the repository."""
    paths = repository_files("*.py", "*.md")
    return sorted(path for path in paths if not path.startswith(LEFT_OUT))


def package_of(path: str) -> str:
    """The folder that a finding is reported under: of the top level, in prelabel and tests one of
    the second level.
    """
    parts = path.split("/")[:-1]
    return "/".join(parts[: 2 if parts and parts[0] in ("prelabel", "tests") else 1]) or "."


FILES = checked_files()


@pytest.mark.parametrize("package", sorted({package_of(path) for path in FILES}))
def test_sentences_follow_the_rules_of_language(package: str) -> None:
    found = [line for path in FILES if package_of(path) == package for line in findings(path)]
    assert not found, f"{len(found)} findings in {package}:\n" + "\n".join(found)


@pytest.mark.parametrize(("text", "rule"), BROKEN.items())
def test_a_pattern_finds_what_breaks_its_rule(text: str, rule: str) -> None:
    assert any(rule in sentence for sentence in broken_rules(Passage(text, 1)))


@pytest.mark.parametrize(("text", "rule"), BROKEN_DOCSTRINGS.items())
def test_a_pattern_finds_docstrings_that_break_its_rule(text: str, rule: str) -> None:
    text = without_code(text)
    assert any(rule in sentence for sentence in broken_rules(Passage(text, 1, is_docstring=True)))
    assert not any(rule in sentence for sentence in broken_rules(Passage(text, 1)))


@pytest.mark.parametrize("text", KEPT)
def test_plain_sentences_break_no_rule(text: str) -> None:
    assert broken_rules(Passage(without_code(text), 1, is_docstring=True)) == []


def broken_rules(passage: Passage) -> list[str]:
    return [rule.sentence for rule in RULES if any(rule.matches(passage))]


def test_a_finding_names_file_line_and_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'x = 1  # fine\n\n# A comment of\n# two lines, which nobody reads.\n"""Not a doc."""\n'
    (tmp_path / "module.py").write_text(source, encoding="utf-8")
    (tmp_path / "page.md").write_text("# A page\n\n```sh\nnobody\n```\n\nHe asks.\n", "utf-8")
    monkeypatch.setattr("tests.repo.test_language.ROOT", tmp_path)
    [in_module], [in_page] = findings("module.py"), findings("page.md")
    assert in_module.startswith("module.py:4: processes, requests and hosts")
    assert in_page.startswith("page.md:7: no 'he'")
