"""The tables of docs/user/models.md, and the example cards of docs/user/own-weights.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from docs.generators.model_tables import detectors, segmenters, sources
from docs.generators.results import all_results
from prelabel.checkpoints.cards import (
    ModelCard,
    SegmenterCard,
    list_cards,
    list_segmenter_cards,
    load_card,
    model_folder,
)
from prelabel.checkpoints.published import Published
from prelabel.checkpoints.version import model_version
from prelabel.settings import AppSettings
from tests.support.paths import ROOT

OWN_WEIGHTS = (ROOT / "docs" / "user" / "own-weights.md").read_text()


def rows(table: str) -> dict[str, list[str]]:
    found = re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", table, re.MULTILINE)
    return {name: row.split(" | ") for name, row in found}


def test_the_tables_have_a_row_for_each_card_and_no_other() -> None:
    assert set(rows(detectors())) == {card.name for card in list_cards()}
    assert set(rows(segmenters())) == {card.name for card in list_segmenter_cards()}


def test_every_row_has_a_size_and_every_reference_a_source() -> None:
    numbers = set(re.findall(r"^(\d+)\. <https://", sources(), re.MULTILINE))
    for table in (detectors(), segmenters()):
        assert set(re.findall(r"\[(\d+)\]", table)) <= numbers
    assert all(" MB" in row[1] for row in rows(detectors()).values())
    assert all(" MB" in row[2] for row in rows(segmenters()).values())


def test_downloaded_models_name_the_source_of_their_licence() -> None:
    for card in (*list_cards(), *list_segmenter_cards()):
        assert not card.downloadable or (card.published and card.published.licence_source)


def test_a_published_figure_needs_a_source() -> None:
    with pytest.raises(ValidationError, match="needs its source"):
        Published(coco_ap=48.4)
    assert Published(coco_ap=48.4, coco_source="https://example.com").lvis_minival_ap is None


def test_the_measured_seconds_are_those_of_the_results() -> None:
    results = all_results()
    measured = rows(detectors())["grounding-dino-swin-t"][-1].split(" / ")
    for each, seconds in zip(results, measured, strict=True):
        library_s, own_s = each.seconds_of_a_pass("640x640")
        assert float(seconds) == pytest.approx(own_s, abs=0.01)
        assert own_s < library_s


def test_example_cards_are_cards() -> None:
    examples = re.findall(r"```yaml\n(name:.*?)```", OWN_WEIGHTS, re.DOTALL)
    *detectors, segmenter = map(yaml.safe_load, examples)
    engines = [ModelCard.model_validate(each).engine for each in detectors]
    assert engines == ["huggingface", "groundingdino"]
    assert SegmenterCard.model_validate(segmenter).source == "local"


def test_published_facts_do_not_change_the_model_version(tmp_path: Path) -> None:
    """Their change would make Label Studio request all predictions again."""
    card = load_card("demo")
    folder = model_folder(card, tmp_path)
    told = card.model_copy(update={"published": Published(parameters_m=6)})
    assert model_version(card, folder, AppSettings()) == model_version(told, folder, AppSettings())
