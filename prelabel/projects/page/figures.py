"""The plots of the page, as plotly's JSON. Colours come from the page's style sheet."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from prelabel.evaluation.advice import Advice
from prelabel.evaluation.findings import short
from prelabel.evaluation.report import LabelReport, Report
from prelabel.types import Floats, Ints

Figure = dict[str, Any]  # {"data": [...], "layout": {...}}

_MOST_POINTS: Final = 400  # of one curve
_MOST_CURVES: Final = 20  # more cannot be told apart
_MOST_CELLS: Final = 40  # labels of the confusion matrix
_NAME: Final = 24  # characters of a label
_COLUMNS_WITH_TEXT: Final = 16  # of the matrix; the cells of more are too small
# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1")
_DASHES: Final = ("solid", "dash", "dot")


def figures_of(report: Report) -> dict[str, Figure]:
    """Return the plots by the ids of their places in the page."""
    shown = sorted(report.labels, key=lambda each: -each.truth)[:_MOST_CURVES]
    shown = [each for each in shown if len(each.curve.thresholds)]
    return {
        "precision-recall": _precision_recall(shown),
        "f1": _f1(shown, report.advice),
        "confusion": _confusion(report),
        "intervals": _intervals(report),
    }


def _precision_recall(labels: Sequence[LabelReport]) -> Figure:
    traces: list[Figure] = []
    for number, each in enumerate(labels):
        rows = _thinned(len(each.curve.thresholds))
        recall, precision = each.curve.recall[rows], each.curve.precision[rows]
        traces.append(
            {
                **_line(number, each.label),
                "x": _numbers(recall),
                "y": _numbers(precision),
                "customdata": _numbers(each.curve.thresholds[rows]),
                "hovertemplate": "recall %{x:.3f}<br>precision %{y:.3f}<br>"
                "threshold %{customdata:.2f}<extra>%{fullData.name}</extra>",
            }
        )
        point = each.point
        if point.recall.value is not None and point.precision.value is not None:
            traces.append(
                {
                    **_mark(number, each.label, "circle"),
                    "x": [point.recall.value],
                    "y": [point.precision.value],
                    "hovertemplate": "now<br>recall %{x:.3f}<br>precision %{y:.3f}"
                    "<extra>%{fullData.name}</extra>",
                }
            )
    return {"data": traces, "layout": _axes("Recall", "Precision")}


def _f1(labels: Sequence[LabelReport], advice: Advice | None) -> Figure:
    proposals = advice.proposals if advice else {}
    traces: list[Figure] = []
    for number, each in enumerate(labels):
        rows = _thinned(len(each.curve.thresholds))
        thresholds, f1 = each.curve.thresholds[rows], each.curve.f1[rows]
        traces.append(
            {
                **_line(number, each.label),
                "x": _numbers(thresholds),
                "y": _numbers(f1),
                "hovertemplate": "threshold %{x:.2f}<br>F1 %{y:.3f}<extra>%{fullData.name}</extra>",
            }
        )
        marks = [] if each.threshold is None else [(each.threshold, "circle", "now")]
        if each.label in proposals:
            marks.append((proposals[each.label], "diamond", "proposed"))
        for threshold, symbol, word in marks:
            traces.append(
                {
                    **_mark(number, each.label, symbol),
                    "x": [threshold],
                    "y": [_at(threshold, each.curve.thresholds, each.curve.f1)],
                    "hovertemplate": f"{word}: threshold {threshold:.2f}<br>F1 %{{y:.3f}}"
                    "<extra>%{fullData.name}</extra>",
                }
            )
    return {"data": traces, "layout": _axes("Threshold", "F1")}


def _confusion(report: Report) -> Figure:
    """Return the matrix: rows are labels of people, shaded by their share of the row."""
    count = len(report.labels)
    order = np.argsort([-each.truth for each in report.labels], kind="stable")[:_MOST_CELLS]
    places = [*order.tolist(), count]
    matrix = report.confusion[np.ix_(places, places)]
    total = report.confusion[places].sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(total, 1)
    names = [*(_name(report.labels[i].label) for i in order), "nothing"]
    ticks = list(range(len(names)))
    axis = {"tickvals": ticks, "ticktext": names, "showgrid": False, "zeroline": False}
    return {
        "data": [
            {
                "type": "heatmap",
                "x": ticks,
                "y": ticks,
                "z": shares.round(4).tolist(),
                "text": matrix.tolist(),
                "texttemplate": "%{text}" if len(names) <= _COLUMNS_WITH_TEXT else "",
                "zmin": 0,
                "zmax": 1,
                "showscale": False,
                "xgap": 1,
                "ygap": 1,
                "customdata": [[[row, column] for column in names] for row in names],
                "hovertemplate": "people: %{customdata[0]}<br>model: %{customdata[1]}<br>"
                "%{text} boxes, %{z:.1%} of the row<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {**axis, "title": {"text": "Label of the model"}, "tickangle": -40},
            "yaxis": {**axis, "title": {"text": "Label of people"}, "autorange": "reversed"},
            "showlegend": False,
            "height": max(360, 140 + 26 * len(names)),
        },
    }


def _intervals(report: Report) -> Figure:
    """Return the F1 of each label with its interval, the greatest last, as a dot plot."""
    labels = [each for each in report.labels if each.point.f1.value is not None]
    labels.sort(key=lambda each: each.point.f1.value or 0.0)
    labels = labels[-_MOST_CELLS:]
    values = [each.point.f1.value or 0.0 for each in labels]
    ticks = list(range(len(labels)))
    error = {
        "type": "data",
        "symmetric": False,
        "array": [_or_zero(each.point.f1.high, v) for each, v in zip(labels, values, strict=True)],
        "arrayminus": [
            -_or_zero(each.point.f1.low, v) for each, v in zip(labels, values, strict=True)
        ],
    }
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": values,
                "y": ticks,
                "error_x": error,
                "marker": {"color": _COLOURS[0], "size": 9},
                "customdata": [each.truth for each in labels],
                "hovertemplate": "F1 %{x:.3f}, %{customdata} boxes of people<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"title": {"text": "F1 now"}, "range": [0, 1.02]},
            "yaxis": {"tickvals": ticks, "ticktext": [_name(each.label) for each in labels]},
            "showlegend": False,
            "height": max(260, 110 + 26 * len(labels)),
        },
    }


def _line(number: int, label: str) -> Figure:
    style = {"color": _COLOURS[number % len(_COLOURS)], "width": 2}
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": _name(label),
        "legendgroup": str(number),
        "line": {**style, "dash": dash},
    }


def _mark(number: int, label: str, symbol: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _name(label),
        "legendgroup": str(number),
        "showlegend": False,
        "marker": {"color": _COLOURS[number % len(_COLOURS)], "size": 10, "symbol": symbol},
    }


def _axes(x: str, y: str) -> Figure:
    return {
        "xaxis": {"title": {"text": x}, "range": [0, 1.02]},
        "yaxis": {"title": {"text": y}, "range": [0, 1.05]},
        "height": 420,
    }


def _name(label: str) -> str:
    # Plotly reads a few HTML tags in texts.
    return html.escape(short(label, _NAME))


def _thinned(count: int) -> Ints:
    places = np.linspace(0, count - 1, min(count, _MOST_POINTS)).round()
    return np.unique(places.astype(np.int64))


def _numbers(values: Floats) -> list[float]:
    return [float(value) for value in values.round(4)]


def _at(threshold: float, thresholds: Floats, f1: Floats) -> float:
    """Return the F1 at a threshold; the thresholds fall."""
    over = int(np.count_nonzero(thresholds >= threshold))
    return float(f1[over - 1]) if over else 0.0


def _or_zero(end: float | None, value: float) -> float:
    return 0.0 if end is None else end - value
