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
_RATE_INTERVAL = "60s"  # Grafana's, with the 15 s between two scrapes of prometheus.yml
# Colours that colour-blind people can tell apart (Okabe and Ito), in an order of contrast.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#f0e442")
_STATES = {"pending": "#e69f00", "firing": "#c4162a"}
_INK, _FAINT, _GRID, _PAPER = "#24292e", "#6a737d", "#e1e4e8", "#f4f5f7"


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

    def series(self, target: Mapping[str, str], start: float, end: float) -> list[Series]:
        """Return the curves of a panel's query between two times."""
        expression = target["expr"].replace("$__rate_interval", _RATE_INTERVAL)
        step = _step_s((start, end))
        found = self.get("query_range", query=expression, start=start, end=end, step=step)["result"]
        curves = []
        for each in found:
            points = np.array(each["values"], dtype=float)
            keep = np.isfinite(points[:, 1])  # a share of nothing is NaN
            if keep.any():
                name = _legend(target["legendFormat"], each["metric"])
                curves.append(Series(points[keep, 0], points[keep, 1], name))
        return sorted(curves, key=lambda curve: curve.legend)


def draw(prometheus: Prometheus, start: float, end: float, path: Path) -> list[str]:
    """Write the picture, without rows that have no value. Return the titles of empty panels.

    Args:
        prometheus: The server that has the values.
        start: First time, seconds since 1970.
        end: Last time.
        path: The file.
    """
    curves = {
        panel["title"]: [
            each for target in panel["targets"] for each in prometheus.series(target, start, end)
        ]
        for panel in DASHBOARD["panels"]
        if panel["type"] != "row"
    }
    shown = [row for row in _rows() if any(curves[panel["title"]] for panel in row[1])]
    cells = sum(1 + panels[0]["gridPos"]["h"] for _, panels in shown)
    with mpl.rc_context({"font.size": 8, "font.family": "DejaVu Sans"}):
        figure = Figure((_COLUMNS * _UNIT_IN[0], cells * _UNIT_IN[1]), dpi=_DPI, facecolor=_PAPER)
        top = 0
        for title, panels in shown:
            figure.text(0.006, 1 - (top + 0.75) / cells, title, weight="bold", size=10, color=_INK)
            for panel in panels:
                axes = _add_panel(figure, panel, top + 1, cells)
                is_states = panel["type"] == "state-timeline"
                draw_panel = _draw_states if is_states else _draw_curves
                draw_panel(axes, panel, curves[panel["title"]], (start, end))
            top += 1 + panels[0]["gridPos"]["h"]
        figure.savefig(path)
    return [title for title, own in curves.items() if not own]


def _rows() -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the title of each row with its panels."""
    rows: list[tuple[str, list[dict[str, Any]]]] = []
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            rows.append((panel["title"], []))
        else:
            rows[-1][1].append(panel)
    return rows


def _add_panel(figure: Figure, panel: Mapping[str, Any], top: int, cells: int) -> Axes:
    """Add the card of a panel, and the axes on it; `top` of `cells` in the height."""
    place, is_states = panel["gridPos"], panel["type"] == "state-timeline"
    card = (
        (place["x"] + 0.08) / _COLUMNS,
        1 - (top + place["h"] - 0.12) / cells,
        (place["w"] - 0.16) / _COLUMNS,
        (place["h"] - 0.24) / cells,
    )
    background = figure.add_axes(card, facecolor="white")
    background.set(xticks=[], yticks=[])
    background.spines[:].set_color(_GRID)
    # Room for the values at the left, the times and the legend below, the title above.
    left, below, above = (4.6, 1.0, 1.2) if is_states else (1.3, 2.35, 1.2)
    frame = (
        (place["x"] + left) / _COLUMNS,
        1 - (top + place["h"] - below) / cells,
        (place["w"] - left - 0.4) / _COLUMNS,
        (place["h"] - below - above) / cells,
    )
    background.text(
        0.012 * _COLUMNS / place["w"],
        1 - 0.62 / place["h"],
        panel["title"],
        transform=background.transAxes,
        size=9,
        color=_INK,
        va="center",
    )
    return figure.add_axes(frame)


def _draw_curves(
    axes: Axes, panel: Mapping[str, Any], curves: Sequence[Series], span: tuple[float, float]
) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    _prepare(axes, span)
    if not curves:
        _write_empty(axes, defaults)
        return
    custom = defaults.get("custom", {})
    last = "lastNotNull" in panel["options"]["legend"]["calcs"]
    for curve, colour in zip(curves, _COLOURS * 4, strict=False):
        times = _dates(curve.times_s)
        name = f"{curve.legend} {curve.values[-1]:.3g}" if last else curve.legend
        axes.plot(
            times,
            curve.values,
            color=colour,
            lw=custom.get("lineWidth", 1) * 0.75,
            label=name,
        )
        axes.fill_between(
            times, curve.values, color=colour, alpha=custom.get("fillOpacity", 0) / 100, lw=0
        )
    highest = max(curve.values.max() for curve in curves)
    axes.set_ylim(defaults.get("min"), defaults.get("max", highest * 1.08 if highest else 1))
    whole = defaults.get("decimals") == 0
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=whole))
    write = _unit(defaults["unit"])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.15),
        borderaxespad=0,
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
    _prepare(axes, span)
    axes.grid(False)
    if not curves:
        _write_empty(axes, panel["fieldConfig"]["defaults"])
        return
    names = [curve.legend for curve in curves]
    step = _step_s(span)
    for number, curve in enumerate(curves):
        colour = _STATES[curve.legend.rpartition(" ")[2]]
        ends = np.flatnonzero(np.diff(curve.times_s) > 1.5 * step) + 1
        for times in np.split(curve.times_s, ends):
            first, last = _dates(np.array([times[0], times[-1] + step]))
            axes.barh(number, last - first, 0.6, first, color=colour, lw=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _prepare(axes: Axes, span: tuple[float, float]) -> None:
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


def _step_s(span: tuple[float, float]) -> float:
    """Return the seconds between two points of a curve."""
    return max(1.0, (span[1] - span[0]) / _POINTS)


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
    parser.add_argument("--until", type=float, default=time.time(), help="seconds since 1970")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    server, end = Prometheus(options.prometheus), options.until
    empty = draw(server, end - options.minutes * 60, end, options.output)
    print(f"{options.output}; panels without data: {empty}")  # noqa: T201


if __name__ == "__main__":
    main()
