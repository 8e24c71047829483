"""The report and its drawings -> one HTML file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined

from prelabel.evaluation.advice import MIN_BOXES
from prelabel.evaluation.findings import (
    advice_row,
    advice_sentence,
    findings,
    short,
)
from prelabel.evaluation.report import Report
from prelabel.projects.page.drawings import Drawing
from prelabel.projects.page.figures import figures_of

_TEMPLATE: Final = "page.html.jinja"


@dataclass(frozen=True, slots=True)
class Heading:
    """The subject of the page.

    Attributes:
        title: The project's title.
        address: Its page in Label Studio.
        project: Its number.
        version: The model version of the predictions.
        source: Whether the predictions are stored ones, or were asked for now.
        made_at: The time of the evaluation.
        notes: Sentences about what was left out.
    """

    title: str
    address: str
    project: int
    version: str
    source: str
    made_at: datetime
    notes: Sequence[str] = ()


def render_page(report: Report, heading: Heading, drawings: Sequence[Drawing]) -> str:
    """Return the page. It refers to no other file, and all texts of the project are escaped."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=DictLoader({_TEMPLATE: _read(_TEMPLATE)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    return environment.get_template(_TEMPLATE).render(
        report=report,
        heading=heading,
        drawings=drawings,
        findings=findings(report),
        advice_sentence=advice_sentence(report.advice) if report.advice else "",
        advice_rows=[(each.label, *advice_row(each)) for each in report.advice.labels]
        if report.advice
        else [],
        min_boxes=MIN_BOXES,
        # The template marks the next four as safe: files of the package and of plotly, and JSON.
        style=_read("page.css"),
        script=_read("page.js"),
        plotly=get_plotlyjs(),
        figures=_json(figures_of(report)),
    )


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    """Return JSON that can stand in a script tag: labels may contain `</script>`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
