"""The report of an evaluation as tables of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from prelabel.cli.tables import Column, print_table
from prelabel.cli.terminal import print_line, print_paragraph
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


def print_report(report: Report, title: str, notes: Sequence[str], console: Console) -> None:
    """Print a report: its figures, those of each label, and what they mean."""
    print_line(title, console)
    print_line(
        f"{report.pictures} pictures, {report.negatives} of them without objects; {report.truth} "
        f"boxes of people, {report.predicted} of the model.",
        console,
    )
    _print_overall(report, console)
    if report.labels:
        print_line("", console)
        _print_labels(report, console)
    for sentence in (*findings(report), *notes):
        print_paragraph(sentence, console)
    if report.advice is not None:
        _print_advice(report.advice, console)
        print_paragraph(advice_sentence(report.advice), console)


def _print_overall(report: Report, console: Console) -> None:
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
    columns = [Column("measure"), *_numbers("value", "95 % confidence", "boxes")]
    figures = [(name, *value_and_interval(each), str(truth)) for name, each, truth in rows]
    print_table(columns, figures, console)


def _print_labels(report: Report, console: Console) -> None:
    columns = _numbers("people", "model", "AP", "precision", "recall", "F1")
    rows = [
        (
            short(each.label),
            str(each.truth),
            str(each.predicted),
            with_interval(each.ap),
            value_and_interval(each.point.precision)[0],
            value_and_interval(each.point.recall)[0],
            with_interval(each.point.f1),
        )
        for each in report.labels
    ]
    print_table([Column("label"), *columns], rows, console)


def _print_advice(advice: Advice, console: Console) -> None:
    reason = Column("on the pictures that were not used to choose", wraps=True)
    columns = (Column("label"), *_numbers("now", "proposed"), reason)
    rows = [(short(each.label), *advice_row(each)) for each in advice.labels]
    print_table(columns, rows, console)


def _numbers(*titles: str) -> list[Column]:
    return [Column(title, is_number=True) for title in titles]
