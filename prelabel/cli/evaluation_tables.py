"""The report of an evaluation as tables of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prelabel.cli.progress import print_line
from prelabel.evaluation.advice import Advice
from prelabel.evaluation.findings import (
    advice_row,
    advice_sentence,
    findings,
    short,
    value_and_interval,
    with_interval,
)
from prelabel.evaluation.report import Report

_LEAST_NAME = 8  # characters of a label, however narrow the terminal is


def print_report(report: Report, title: str, notes: Sequence[str], console: Console) -> None:
    """Print a report: its figures, those of each label, and what they mean."""
    print_line(title, console)
    print_line(
        f"{report.pictures} pictures, {report.negatives} of them without objects; {report.truth} "
        f"boxes of people, {report.predicted} of the model.",
        console,
    )
    console.print(_overall(report))
    if report.labels:
        console.print(_labels(report))
    for sentence in (*findings(report), *notes):
        print_line(sentence, console)
    if report.advice is not None:
        console.print(_advice(report.advice))
        print_line(advice_sentence(report.advice), console)


def _overall(report: Report) -> Table:
    table = _table("", "value", "95 % confidence", "boxes")
    point = report.point
    rows = (
        ("AP", report.ap, report.truth),
        ("AP50", report.ap50, report.truth),
        ("AP75", report.ap75, report.truth),
        *((f"AP {each.size}", each.ap, each.truth) for each in report.sizes),
        ("precision", point.precision, report.truth),
        ("recall", point.recall, report.truth),
        ("F1", point.f1, report.truth),
    )
    for name, estimate, truth in rows:
        value, interval = value_and_interval(estimate)
        table.add_row(name, value, interval, str(truth))
    return table


def _labels(report: Report) -> Table:
    table = _table("label", "people", "model", "AP", "precision", "recall", "F1")
    table.columns[0].min_width, table.columns[0].no_wrap = _LEAST_NAME, True
    for each in report.labels:
        point = each.point
        table.add_row(
            escape(short(each.label)),
            str(each.truth),
            str(each.predicted),
            with_interval(each.ap),
            value_and_interval(point.precision)[0],
            value_and_interval(point.recall)[0],
            with_interval(point.f1),
        )
    return table


def _advice(advice: Advice) -> Table:
    table = _table("label", "now", "proposed", "on the pictures that were not used to choose")
    table.columns[0].min_width = _LEAST_NAME
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
