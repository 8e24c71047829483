"""The plots of docs/operator/performance.md, from benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable

from docs.generators.results import Results, all_results
from docs.generators.svg import Series, bars, curves, described

_CLIENTS = (1, 8, 16, 32)
_SIZES = {"640x640": "640 x 640", "800x1333": "800 x 1333"}


def engine() -> str:
    """Return the plot of one pass of the full-size model on a CPU, beside the library's own."""
    places, library_s, own_s = [], [], []
    for each in all_results():
        for size, name in _SIZES.items():
            library, own = each.seconds_of_a_pass(size)
            places.append(f"{each.title}, {name}")
            library_s.append(library)
            own_s.append(own)
    series = [Series("groundingdino-py", library_s), Series("prelabel", own_s)]
    title = "Seconds of a pass of Swin-T on two cores"
    rows = {
        place: f"{a:.2f} s and {b:.2f} s"
        for place, a, b in zip(places, library_s, own_s, strict=True)
    }
    caption = "Seconds of one pass of Grounding DINO Swin-T, float32, two cores. Less is better."
    return described(bars(title, places, series, "s"), caption, rows)


def throughput() -> str:
    """Return the plot of the service's pictures per second over the number of clients."""
    series = _over_clients(lambda clients: f"demo_service_per_s_{clients}", all_results())
    title = "Pictures a second by the number of clients"
    plot = curves(title, _CLIENTS, series, "clients at a time", "pictures/s")
    caption = "Pictures a second of the service with the demo model, two cores. More is better."
    return described(plot, caption, _rows(series))


def latency() -> str:
    """Return the plot of the service's answer times over the number of clients."""
    results = next(each for each in all_results() if each.kind == "amx")
    series = [
        Series(
            f"{percentile}th percentile" if percentile != 50 else "median",
            [results.figures[f"demo_p{percentile}_ms_{clients}"] for clients in _CLIENTS],
        )
        for percentile in (99, 95, 50)
    ]
    title = "Milliseconds until the answer by the number of clients"
    plot = curves(title, _CLIENTS, series, "clients at a time", "ms")
    caption = f"Time until the answer, demo model, two cores ({results.title}). Less is better."
    return described(plot, caption, _rows(series))


def overhead() -> str:
    """Return the plot of the time that the service adds to a pass, beside a Flask server."""
    results = all_results()
    series = [
        Series("Flask", [each.figures.get("overhead_of_flask_p50_ms") for each in results]),
        Series("prelabel", [each.figures.get("overhead_p50_ms") for each in results]),
    ]
    places = [each.title for each in results]
    plot = bars("Milliseconds that a server adds to a pass", places, series, "ms")
    caption = "Time that the server adds to one pass of the demo model, median. Less is better."
    rows = {
        place: f"{flask:.0f} ms and {own:.0f} ms"
        for place, flask, own in zip(places, series[0].values, series[1].values, strict=True)
        if flask is not None and own is not None
    }
    return described(plot, caption, rows)


def scaling() -> str:
    """Return the plot of the throughput of one, two and four detectors."""
    replicas = (1, 2, 4)
    measured = [each for each in all_results() if "slow_model_per_s_4" in each.figures]
    series = [
        Series(each.title, [each.figures[f"slow_model_per_s_{count}"] for count in replicas])
        for each in measured
    ]
    ideal = measured[0].figures["slow_model_per_s_1"]
    series.append(Series("in proportion", [ideal * count for count in replicas]))
    title = "Pictures a second by the number of detectors"
    plot = curves(title, replicas, series, "detectors", "pictures/s")
    caption = "Pictures a second of one, two and four detectors that wait as a GPU does."
    return described(plot, caption, _rows(series))


PLOTS: dict[str, Callable[[], str]] = {
    "plot-engine": engine,
    "plot-throughput": throughput,
    "plot-latency": latency,
    "plot-overhead": overhead,
    "plot-scaling": scaling,
}


def _over_clients(figure: Callable[[int], str], results: list[Results]) -> list[Series]:
    return [
        Series(each.title, [each.figures[figure(clients)] for clients in _CLIENTS])
        for each in results
    ]


def _rows(series: list[Series]) -> dict[str, str]:
    return {
        each.name: ", ".join(f"{value:.3g}" for value in each.values if value is not None)
        for each in series
    }
