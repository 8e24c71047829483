"""docs/user/models.md agrees with the model cards."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from prelabel.checkpoints.cards import (
    ModelCard,
    SegmenterCard,
    list_cards,
    list_segmenter_cards,
)
from prelabel.settings.paths import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "user" / "models.md").read_text()
DETECTORS, SEGMENTERS = PAGE.split("## Segmenters")
ROWS, SEGMENTER_ROWS = (
    dict(re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", part, re.MULTILINE))
    for part in (DETECTORS, SEGMENTERS)
)


def test_table_has_a_row_for_each_card_and_no_other() -> None:
    assert set(ROWS) == {card.name for card in list_cards()}
    assert set(SEGMENTER_ROWS) == {card.name for card in list_segmenter_cards()}


def test_rows_say_engine_licence_and_size_of_the_cards() -> None:
    for card in list_cards():
        _, size, licence, *_, engine = ROWS[card.name].split(" | ")
        assert engine == card.engine
        assert licence.split(" [")[0] == card.licence
        recorded = sum(file.size or 0 for file in card.files if file.path == card.weights)
        if recorded:
            assert size == f"{recorded / 1e6:.0f} MB"
        else:
            assert size.endswith("GB **")


def test_rows_of_segmenters_say_licence_and_size_of_the_cards() -> None:
    for card in list_segmenter_cards():
        _, _, size, licence, _ = SEGMENTER_ROWS[card.name].split(" | ")
        assert licence == card.licence
        recorded = sum(file.size or 0 for file in card.files if file.path == card.weights)
        assert size == f"{recorded / 1e6:.1f} MB" if recorded else card.title.endswith(size)


def test_every_published_figure_has_a_source_on_the_page() -> None:
    sources = set(re.findall(r"^(\d)\. ", PAGE, re.MULTILINE))
    for row in ROWS.values():
        for figure in row.split(" | ")[3:5]:
            assert figure == "-" or re.search(r"\[(\d)\]$", figure)[1] in sources  # type: ignore[index]


def test_example_card_is_a_card(tmp_path: Path) -> None:
    segmenter, detector = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for card_class, example in ((ModelCard, detector), (SegmenterCard, segmenter)):
        assert card_class.model_validate(yaml.safe_load(example)).source == "local"
