"""Wall times and their statistics. Alternatives are measured interleaved, because load on the
machine then affects all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

Figures = Iterator[tuple[str, float]]  # names and values


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    started_at = time.perf_counter()
    work()
    return time.perf_counter() - started_at


def settled(work: Callable[[], float]) -> Callable[[], float]:
    """Return a function that measures twice and returns the second value.

    The first pass after one of another process finds caches and cores as that process left them.
    """

    def measure() -> float:
        work()
        return work()

    return measure


def per_s(work: Callable[[], object], threads: int, for_s: float) -> float:
    """Return the calls per second in a number of threads."""
    until = time.perf_counter() + for_s

    def run(_: int) -> int:
        count = 0
        while time.perf_counter() < until:
            work()
            count += 1
        return count

    with ThreadPoolExecutor(threads) as executor:
        return sum(executor.map(run, range(threads))) / for_s


def interleaved(
    works: Mapping[str, Callable[[], float]], rounds: int, *, warm: bool = False
) -> dict[str, list[float]]:
    """Call each function once per round and return its values by name.

    Args:
        works: The functions to compare.
        rounds: Number of rounds that are recorded.
        warm: The functions are warmed up already. Otherwise each is called once before the rounds.
    """
    if not warm:
        for work in works.values():
            work()
    values: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            values[name].append(work())
    return values


def medians(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each sequence."""
    return {name: statistics.median(sequence) for name, sequence in values.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
