"""Plots as SVG inside of a page, in colours that docs/assets/extra.css gives them.

Inside of the page and not as pictures, so that text and colours follow its light or dark scheme.
The colours of the series are those of Okabe and Ito, which colour-blind people can tell apart;
lines differ by their dashes, too, and bars by their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH_PX = 720
_LEFT_PX = 190
_RIGHT_PX = 60
_BAR_PX = 20
_GROUP_GAP_PX = 14
_LEGEND_PX = 30


@dataclass(frozen=True)
class Series:
    """Values of one name, as many as the plot has places; None: there is none."""

    name: str
    values: Sequence[float | None]


def bars(title: str, places: Sequence[str], series: Sequence[Series], unit: str) -> str:
    """Return a plot of horizontal bars, a group for each place; the unit is that of the values."""
    greatest = max(value for each in series for value in each.values if value is not None)
    scale = (WIDTH_PX - _LEFT_PX - _RIGHT_PX) / greatest
    lines = [*_legend(series, _swatch)]
    y = _LEGEND_PX
    for index, place in enumerate(places):
        values = [(number, each.values[index]) for number, each in enumerate(series)]
        shown = [(number, value) for number, value in values if value is not None]
        middle = y + len(shown) * _BAR_PX / 2
        lines.append(_text(_LEFT_PX - 10, middle + 4, place, "end"))
        for number, value in shown:
            width = max(value * scale, 1)
            lines.append(
                f'<rect class="series-{number}" x="{_LEFT_PX}" y="{y + 2}" width="{width:.1f}" '
                f'height="{_BAR_PX - 4}" rx="2"/>'
            )
            lines.append(_text(_LEFT_PX + width + 6, y + 15, f"{_short(value)} {unit}"))
            y += _BAR_PX
        y += _GROUP_GAP_PX
    return _svg(title, y, lines)


def curves(
    title: str, xs: Sequence[float], series: Sequence[Series], x_name: str, y_name: str
) -> str:
    """Return a plot of lines over xs; ys begin at zero."""
    height, bottom, left = 310, 260, 60
    greatest = max(value for each in series for value in each.values if value is not None)
    ticks = list(_ticks(greatest))
    scale = (WIDTH_PX - left - _RIGHT_PX) / (xs[-1] - xs[0])

    def at(index: int, value: float) -> tuple[float, float]:
        y = bottom - value / ticks[-1] * (bottom - _LEGEND_PX - 28)
        return left + (xs[index] - xs[0]) * scale, y

    lines = [*_legend(series, _dash)]
    for tick in ticks:
        _, y = at(0, tick)
        lines.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDTH_PX - _RIGHT_PX}"/>')
        lines.append(_text(left - 8, y + 4, _short(tick), "end"))
    for index, x in enumerate(xs):
        lines.append(_text(at(index, 0)[0], bottom + 20, f"{x:g}", "middle"))
    lines.append(_text((WIDTH_PX + left - _RIGHT_PX) / 2, bottom + 42, x_name, "middle"))
    lines.append(_text(left - 44, _LEGEND_PX + 12, y_name))
    for number, each in enumerate(series):
        points = [at(i, value) for i, value in enumerate(each.values) if value is not None]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        lines.append(f'<path class="line line-{number}" d="M{path}"/>')
        lines += [
            f'<circle class="series-{number}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points
        ]
    return _svg(title, height, lines)


def described(plot: str, caption: str, rows: Mapping[str, str]) -> str:
    """Return a figure of the plot with its caption; rows: its data, for readers without sight."""
    data = "; ".join(f"{name}: {value}" for name, value in rows.items())
    return (
        f'<figure class="plot">{plot}<figcaption>{escape(caption)}'
        f'<span class="unseen"> {escape(data)}</span></figcaption></figure>'
    )


def _svg(title: str, height: float, lines: Iterable[str]) -> str:
    content = "".join(lines)
    return (
        f'<svg viewBox="0 0 {WIDTH_PX} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{content}</svg>'
    )


def _legend(series: Sequence[Series], sign: Callable[[float, int], str]) -> Iterator[str]:
    if len(series) < 2:
        return
    x = 10.0
    for number, each in enumerate(series):
        yield sign(x, number)
        yield _text(x + 30, 16, each.name)
        x += 46 + 7.2 * len(each.name)


def _swatch(x: float, number: int) -> str:
    return f'<rect class="series-{number}" x="{x}" y="5" width="22" height="13" rx="2"/>'


def _dash(x: float, number: int) -> str:
    return f'<path class="line line-{number}" d="M{x} 12h24"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ticks(greatest: float) -> Iterator[float]:
    """Yield four to eight round values from zero to the first that is not below the greatest."""
    magnitude = 10 ** math.floor(math.log10(greatest))
    parts = (0.1, 0.2, 0.5, 1, 2)
    step = next(magnitude * part for part in parts if greatest <= 7 * magnitude * part)
    count = math.ceil(greatest / step)
    yield from (index * step for index in range(count + 1))
