"""The generated parts of the documentation agree with their sources, and its pictures too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from label_studio_sdk.label_interface.interface import LabelInterface

from docs.generators import gallery_page, metrics_tables, thresholds_figure
from docs.generators.gallery import DIGESTS, EXHIBITS, MAX_BYTES, Exhibit, digest, task_of
from docs.generators.markdown_table import table
from docs.generators.pages import with_part
from docs.generators.plots import PLOTS
from docs.generators.site_parts import PARTS
from docs.generators.svg import Series, bars, curves
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import Task
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import ProjectPrompts
from tests.support.paths import ROOT, repository_files

DOCS = ROOT / "docs"
SITE = (ROOT / "mkdocs.yml").read_text()


def test_the_generated_parts_of_the_pages_are_up_to_date() -> None:
    command = [sys.executable, "-m", "docs.generators.pages", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_part_is_written_into_its_place_alone() -> None:
    page = "a\n<!-- generated: x -->\nold\n<!-- end of generated -->\nb\n"
    new = with_part(page, "x", "new \\1")
    assert new == "a\n<!-- generated: x -->\n\nnew \\1\n\n<!-- end of generated -->\nb\n"
    assert with_part(new, "x", "new \\1") == new
    with pytest.raises(ValueError, match="one place"):
        with_part("", "x", "new")


def test_a_cell_of_a_table_keeps_its_bars_and_has_one_line() -> None:
    assert list(table(("a",), [("b | c\nd",)])) == ["| a |", "|---|", "| b \\| c d |"]


def test_every_part_that_a_page_inserts_is_generated_and_every_generated_part_inserted() -> None:
    pages = [path.read_text() for path in DOCS.rglob("*.md")]
    inserted = {name for page in pages for name in re.findall(r"<!-- insert: ([\w-]+) -->", page)}
    assert inserted == set(PARTS)


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/-]+\.md", SITE.partition("\nnav:")[2]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    decisions = {page for page in pages if re.match(r"developer/adr/\d", page)}
    assert pages - decisions == {page for page in named if not page.startswith("repository/")}


def test_every_page_begins_with_its_readers() -> None:
    for page in DOCS.glob("*/*.md"):
        _, _, text = page.read_text().partition("\n\n")
        assert text.startswith("This page is for "), page.relative_to(ROOT)


def test_a_dead_link_fails_the_build() -> None:
    """MkDocs counts no warnings when it is quiet, so that `--strict` would find none."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"mkdocs build --strict$", makefile, re.MULTILINE)
    for kind in ("omitted_files", "not_found", "absolute_links", "anchors", "unrecognized_links"):
        assert re.search(rf"^ +{kind}: warn$", SITE, re.MULTILINE), kind


def test_no_page_repeats_another() -> None:
    """No fifteen words in a row are on two pages; commands and generated pages do not count."""
    where: dict[str, str] = {}
    repeated = []
    for page in sorted(DOCS.glob("*/*.md")):
        if page.name == "settings.md":
            continue
        text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        words = re.sub(r"\]\([^)]*\)", "]", text).split()
        for first in range(len(words) - 14):
            passage = " ".join(words[first : first + 15])
            if where.setdefault(passage, page.name) != page.name:
                repeated.append(f"{where[passage]} and {page.name}: {passage}")
    assert repeated == []


def test_the_site_names_no_outside_resource() -> None:
    assert "font: false" in SITE
    sources = [SITE, *(path.read_text() for path in (DOCS / "assets").glob("*.*"))]
    for text in sources:
        addresses = set(re.findall(r"https?://[^\s\"'<>)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_well_formed_and_has_its_numbers_as_text(name: str) -> None:
    figure = ElementTree.fromstring(PLOTS[name]())
    assert figure.find(".//{*}svg") is not None
    caption = "".join(figure.find("{*}figcaption").itertext())  # type: ignore[union-attr]
    assert re.search(r"\d", caption)


def test_bars_leave_out_missing_values_and_curves_end_above_the_greatest() -> None:
    drawn = bars("t", ["a", "b"], [Series("x", [1.0, None]), Series("y", [2.0, 4.0])], "s")
    assert drawn.count("rx=") == 3 + 2  # with those of the legend
    drawn = curves("t", [1, 2], [Series("x", [1.0, 107.0])], "n", "ms")
    ticks = [float(each) for each in re.findall(r'text-anchor="end">([\d.]+)<', drawn)]
    assert ticks[0] == 0
    assert ticks[-2] < 107 <= ticks[-1]


def test_the_metrics_are_those_of_the_code() -> None:
    source = (ROOT / "deployments" / "metrics.py").read_text()
    names = [name for _, name, _, _ in metrics_tables.declared()]
    assert len(names) == len(set(names)) >= 13
    for name in re.findall(r"prelabel_\w+(?=\")", source):
        assert name in names
    for rule in yaml.safe_load((ROOT / "deploy/monitoring/alerts.yml").read_text())["groups"][0][
        "rules"
    ]:
        assert f"[{rule['alert']}](#" in metrics_tables.alerts()
    assert "{{" not in metrics_tables.alerts()


def gallery_files(suffix: str) -> set[str]:
    return {path.stem for path in gallery_page.FOLDER.glob(f"*{suffix}")}


def test_the_gallery_is_complete() -> None:
    names = {entry.name for entry in gallery_page.ENTRIES}
    assert names == {exhibit.name for exhibit in EXHIBITS}
    assert names == gallery_files(".xml") == gallery_files(".webp")


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_a_config_of_the_gallery_is_valid_and_is_searched(exhibit: Exhibit) -> None:
    LabelInterface(exhibit.config).validate()  # type: ignore[no-untyped-call]
    task = Task.model_validate({"data": task_of(exhibit)})
    config = parse_labeling_config(exhibit.config, 100).for_task(task.data)
    sources = PromptSources.of(task, None, ProjectPrompts(), config)
    looks = plan_task(task, config, sources, AppSettings()).looks
    assert len(looks) == len(exhibit.pictures)
    assert all(any(look.targets) for look in looks)


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_a_screenshot_shows_the_config_beside_it(exhibit: Exhibit) -> None:
    digests = json.loads(DIGESTS.read_text())
    assert digests[exhibit.name] == digest(exhibit.config), "Run `make docs-pictures`."


def pictures() -> Iterator[Path]:
    for path in repository_files("docs/*"):
        if path.endswith((".png", ".webp", ".jpg")):
            yield ROOT / path


def test_pictures_are_small_and_each_is_on_a_page() -> None:
    pages = "".join(path.read_text() for path in [*DOCS.rglob("*.md"), ROOT / "README.md"])
    for path in pictures():
        assert path.stat().st_size < 3 * MAX_BYTES, path
        assert path.parent.name != "gallery" or path.stat().st_size < MAX_BYTES, path
        assert path.name in pages, f"{path.relative_to(ROOT)} is on no page"


def test_defaults_in_texts_are_those_of_the_settings() -> None:
    settings = AppSettings()
    told = [
        match
        for path in DOCS.rglob("*.md")
        for match in re.findall(r"`(\w+)\.(\w+)` \(([\d.]+) by\sdefault\)", path.read_text())
    ]
    assert len(told) >= 3
    for group, name, value in told:
        assert getattr(getattr(settings, group), name) == float(value), name


def test_the_pictures_of_thresholds_show_what_the_model_finds() -> None:
    shown = json.loads(thresholds_figure.NUMBERS.read_text())
    found = thresholds_figure.computed()
    assert list(shown) == list(found)
    for name, boxes in found.items():
        assert [label for label, _ in boxes] == [label for label, _ in shown[name]], name
        scores = [score for _, score in shown[name]]
        assert [score for _, score in boxes] == pytest.approx(scores, abs=0.01), name
