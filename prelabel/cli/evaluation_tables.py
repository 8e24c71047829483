"""The report of an evaluation as tables of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prelabel.evaluation.advice import Advice
from prelabel.evaluation.findings import (
    advice_row,
    advice_sentence,
    findings,
    short,
    with_interval,
)
from prelabel.evaluation.report import Report


def print_report(report: Report, title: str, notes: Sequence[str], console: Console) -> None:
    """Print a report: its figures, those of each label, and what they mean."""
    _say(title, console)
    _say(
        f"{report.pictures} pictures, {report.negatives} of them without objects; {report.truth} "
        f"boxes of people, {report.predicted} of the model.",
        console,
    )
    console.print(_overall(report))
    if report.labels:
        console.print(_labels(report))
    for sentence in (*findings(report), *notes):
        _say(sentence, console)
    if report.advice is not None:
        console.print(_advice(report.advice))
        _say(advice_sentence(report.advice), console)


def _overall(report: Report) -> Table:
    table = _table("AP", "AP50", "AP75", "precision", "recall", "F1", "AP small/medium/large")
    point = report.point
    estimates = (
        report.ap,
        report.ap50,
        report.ap75,
        point.precision,
        point.recall,
        point.f1,
    )
    sizes = "/".join(
        "-" if each.ap.value is None else f"{each.ap.value:.2f}" for each in report.sizes
    )
    table.add_row(*map(with_interval, estimates), sizes)
    return table


def _labels(report: Report) -> Table:
    table = _table("label", "people", "model", "AP", "AP50", "precision", "recall", "F1")
    for each in report.labels:
        point = each.point
        estimates = (each.ap, each.ap50, point.precision, point.recall, point.f1)
        table.add_row(
            escape(short(each.label)),
            str(each.truth),
            str(each.predicted),
            *map(with_interval, estimates),
        )
    return table


def _advice(advice: Advice) -> Table:
    table = _table("label", "now", "proposed", "on the pictures that were not used to choose")
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False
    for each in advice.labels:
        table.add_row(escape(short(each.label)), *advice_row(each))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _say(sentence: str, console: Console) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
