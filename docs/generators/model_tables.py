"""The tables of models, from the model cards and the benchmarks' results."""

from __future__ import annotations

import re
from collections.abc import Sequence

from docs.generators.markdown_table import table
from docs.generators.results import all_results
from prelabel.checkpoints.cards import (
    Card,
    ModelCard,
    list_cards,
    list_segmenter_cards,
)
from prelabel.checkpoints.published import Published

_MEASURED = "grounding-dino-swin-t"  # by part "engine" of the benchmarks, at 640 x 640


def detectors() -> str:
    """Return the table of the detectors."""
    cards = sorted(list_cards(), key=lambda card: (card.downloadable, card.name))
    numbers = _numbers(_all_sources(list_cards()))
    kinds = " / ".join(each.kind.upper() for each in all_results())
    columns = ("card", "model", "size", "licence", "COCO AP", "LVIS AP", f"seconds: {kinds}")
    return "\n".join(table(columns, (_detector_row(card, numbers) for card in cards)))


def segmenters() -> str:
    """Return the table of the segmenters."""
    cards = list_segmenter_cards()
    numbers = _numbers(_all_sources(list_cards()))
    rows = []
    for card in cards:
        facts = card.published or Published()
        parameters = f"{facts.parameters_m:g} M" if facts.parameters_m else "-"
        encoding = f"{facts.encoding_mb:g} MB" if facts.encoding_mb else "-"
        licence = _licence(card, numbers)
        title = re.sub(r", [\d.]+ (MB|million parameters)$", "", card.title)
        rows.append((f"`{card.name}`", title, parameters, _size(card), licence, encoding))
    columns = ("card", "model", "weights", "size", "licence", "encoding of a picture")
    return "\n".join(table(columns, rows))


def sources() -> str:
    """Return the numbered sources of the tables."""
    numbers = _numbers(_all_sources(list_cards()))
    return "\n".join(f"{number}. <{source}>" for source, number in numbers.items())


def _all_sources(detector_cards: Sequence[ModelCard]) -> list[str]:
    cards: list[Card] = [*detector_cards, *list_segmenter_cards()]
    facts = [card.published or Published() for card in cards]
    named = (
        source
        for each in facts
        for source in (each.licence_source, each.coco_source, each.lvis_source)
    )
    return [source for source in named if source]


def _numbers(named: Sequence[str]) -> dict[str, int]:
    return {source: number for number, source in enumerate(dict.fromkeys(named), start=1)}


def _detector_row(card: ModelCard, numbers: dict[str, int]) -> tuple[str, ...]:
    facts = card.published or Published()
    star = "\\*" if facts.coco_in_training else ""
    coco = _figure(facts.coco_ap, star, facts.coco_source, numbers)
    lvis = _figure(facts.lvis_minival_ap, "", facts.lvis_source, numbers)
    licence = _licence(card, numbers)
    title = re.sub(r" \(.*\)$", "", card.title)  # without the data that it was trained on
    return f"`{card.name}`", title, _size(card), licence, coco, lvis, _speed(card)


def _figure(ap: float | None, star: str, source: str | None, numbers: dict[str, int]) -> str:
    return "-" if ap is None or source is None else f"{ap:g}{star} [{numbers[source]}]"


def _licence(card: Card, numbers: dict[str, int]) -> str:
    source = card.published and card.published.licence_source
    return f"{card.licence} [{numbers[source]}]" if source else card.licence


def _size(card: Card) -> str:
    [recorded] = [file.size for file in card.files if file.path == card.weights]
    if recorded:
        return f"{recorded / 1e6:.1f} MB" if recorded < 10e6 else f"{recorded / 1e6:.0f} MB"
    known = card.published and card.published.weights_mb
    return f"{known:.0f} MB \\*\\*" if known else "-"


def _speed(card: ModelCard) -> str:
    """Return the measured seconds of one picture, a kind of processor each."""
    if card.name == _MEASURED:
        seconds = [each.seconds_of_a_pass("640x640")[1] for each in all_results()]
    elif card.source == "embedded":
        seconds = [each.figures["demo_p50_ms_1"] / 1000 for each in all_results()]
    else:
        return "-"
    return " / ".join(f"{each:.2f}" for each in seconds)
