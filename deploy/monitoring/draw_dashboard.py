"""Draw dashboard.json as a picture, with the values of a Prometheus.

Not Grafana: its server is under the AGPL and in no package registry that this project uses. The
panels, their queries, units, limits and legends are those of the file; only the drawing is this
module's.

python deploy/monitoring/draw_dashboard.py --prometheus http://127.0.0.1:9091 --minutes 30 -o x.png
"""

from __future__ import annotations

import argparse
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

DASHBOARD = json.loads(Path(__file__).with_name("dashboard.json").read_text())
_COLUMNS = 24  # of Grafana's grid
_UNIT_IN = 0.62, 0.36  # width and height of a cell of the grid
_DPI = 110
_POINTS = 240  # along the time of a curve
_RATE_SCRAPES = 4  # $__rate_interval of Grafana: at least so many intervals of the scrape
# Colours that colour-blind people can tell apart (Okabe and Ito), in an order of contrast.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#f0e442")
_STATES = {"pending": "#e69f00", "firing": "#c4162a"}
_INK, _FAINT, _GRID = "#24292e", "#6a737d", "#e1e4e8"


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: times in seconds since 1970 [n], values [n], and its legend."""

    times_s: Any
    values: Any
    legend: str


class Prometheus:
    """The HTTP API of a Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/api/v1"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **parameters: str | float) -> Any:
        """Return the `data` of an answer."""
        query = urllib.parse.urlencode(parameters)
        with self._opener.open(f"{self._url}/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    def series(
        self, target: Mapping[str, str], start: float, end: float, rate: str
    ) -> list[Series]:
        """Return the curves of a panel's query between two times."""
        expression = target["expr"].replace("$__rate_interval", rate)
        step = max(1.0, (end - start) / _POINTS)
        found = self.get("query_range", query=expression, start=start, end=end, step=step)["result"]
        curves = []
        for each in found:
            points = np.array(each["values"], dtype=float)
            keep = np.isfinite(points[:, 1])  # a share of nothing is NaN
            if keep.any():
                name = _legend(target["legendFormat"], each["metric"])
                curves.append(Series(points[keep, 0], points[keep, 1], name))
        return sorted(curves, key=lambda curve: curve.legend)


def draw(prometheus: Prometheus, start: float, end: float, scrape_s: float, path: Path) -> int:
    """Write the picture. Return the number of panels without a value.

    Args:
        prometheus: The server that has the values.
        start: First time, seconds since 1970.
        end: Last time.
        scrape_s: Seconds between two scrapes.
        path: The file.
    """
    rate = f"{max(15, int(_RATE_SCRAPES * scrape_s))}s"
    panels = DASHBOARD["panels"]
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
    size = _COLUMNS * _UNIT_IN[0], rows * _UNIT_IN[1]
    empty = 0
    with mpl.rc_context({"font.size": 8, "font.family": "DejaVu Sans"}):
        figure = Figure(size, dpi=_DPI, facecolor="white")
        for panel in panels:
            place = panel["gridPos"]
            if panel["type"] == "row":
                top = 1 - (place["y"] + 0.65) / rows
                figure.text(0.006, top, panel["title"], weight="bold", size=10, color=_INK)
                continue
            curves = [
                each
                for target in panel["targets"]
                for each in prometheus.series(target, start, end, rate)
            ]
            empty += not curves
            axes = figure.add_axes(_frame(place, rows, panel["type"]))
            (_draw_states if panel["type"] == "state-timeline" else _draw_curves)(
                axes, panel, curves, (start, end)
            )
        figure.savefig(path)
    return empty


def _frame(place: Mapping[str, int], rows: int, kind: str) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of a panel's axes, as shares of the figure."""
    # Room for the title above, the times and the legend below, the values at the left.
    left, below, above = (5.6, 1.0, 1.0) if kind == "state-timeline" else (1.15, 2.0, 1.0)
    width, height = place["w"] - left - 0.3, place["h"] - below - above
    bottom = rows - place["y"] - place["h"] + below
    return (place["x"] + left) / _COLUMNS, bottom / rows, width / _COLUMNS, height / rows


def _draw_curves(
    axes: Axes, panel: Mapping[str, Any], curves: Sequence[Series], span: tuple[float, float]
) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    _prepare(axes, panel, span)
    if not curves:
        _write_empty(axes, defaults)
        return
    custom = defaults.get("custom", {})
    for curve, colour in zip(curves, _COLOURS * 4, strict=False):
        times = _dates(curve.times_s)
        axes.plot(
            times,
            curve.values,
            color=colour,
            lw=custom.get("lineWidth", 1) * 0.75,
            label=curve.legend,
        )
        axes.fill_between(
            times, curve.values, color=colour, alpha=custom.get("fillOpacity", 0) / 100, lw=0
        )
    highest = max(curve.values.max() for curve in curves)
    axes.set_ylim(defaults.get("min"), defaults.get("max", highest * 1.08 if highest else 1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _unit(defaults["unit"])(v)))
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.12, -0.16),
        ncols=3 if len(curves) < 7 else 4,
        frameon=False,
        fontsize=7,
        handlelength=1,
        columnspacing=1,
        borderpad=0,
    )


def _draw_states(
    axes: Axes, panel: Mapping[str, Any], curves: Sequence[Series], span: tuple[float, float]
) -> None:
    _prepare(axes, panel, span)
    axes.grid(False)
    if not curves:
        _write_empty(axes, panel["fieldConfig"]["defaults"])
        return
    names = [curve.legend for curve in curves]
    step = (span[1] - span[0]) / _POINTS
    for number, curve in enumerate(curves):
        colour = _STATES[curve.legend.rpartition(" ")[2]]
        for at in curve.times_s:
            first, last = _dates(np.array([at, at + step * 1.05]))
            axes.barh(number, last - first, 0.7, first, color=colour, lw=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _prepare(axes: Axes, panel: Mapping[str, Any], span: tuple[float, float]) -> None:
    axes.set_title(panel["title"], loc="left", size=9, color=_INK, pad=6)
    axes.set_xlim(*_dates(np.array(span)))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.grid(color=_GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, length=0, labelsize=7)
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _write_empty(axes: Axes, defaults: Mapping[str, Any]) -> None:
    text = defaults.get("noValue", "No data")
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=_FAINT, size=9)
    axes.set_yticks([])


def _dates(times_s: Any) -> Any:
    return date2num([datetime.fromtimestamp(each) for each in times_s])  # the local time


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), form)


def _unit(unit: str) -> Callable[[float], str]:
    """Return the function that writes a value with one of Grafana's units."""
    if unit.startswith("suffix:"):
        return lambda value: f"{value:g}{unit.removeprefix('suffix:')}"
    if unit == "s":
        return lambda value: f"{value:g} s" if value >= 1 or value == 0 else f"{value * 1000:g} ms"
    if unit == "decmbytes":
        return lambda value: f"{value / 1000:g} GB"
    forms = {"percentunit": "{:.0%}", "percent": "{:g}%", "none": "{:g}"}
    return forms[unit].format


def main() -> None:
    """Draw the dashboard of the last minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9091")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--scrape", type=float, default=15, help="seconds between two scrapes")
    parser.add_argument("--until", type=float, default=time.time(), help="seconds since 1970")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    server, end = Prometheus(options.prometheus), options.until
    empty = draw(server, end - options.minutes * 60, end, options.scrape, options.output)
    print(f"{options.output}: {empty} panels without data")  # noqa: T201


if __name__ == "__main__":
    main()
