"""Times side by side: what is compared runs in turns, so that a noisy machine is so for all."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit

_TIMEOUT_S = 300


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(
    works: Mapping[str, Callable[[], float]], rounds: int, *, warm: bool = False
) -> dict[str, list[float]]:
    """What each work returns, round by round. Each runs once before, which does not count, where
    they are not warm already.
    """
    if not warm:
        for work in works.values():
            work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in found.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass(frozen=True, slots=True)
class Load:
    """What clients saw: requests per second, and the seconds of each."""

    per_s: float
    latencies_s: list[float]


class Client:
    """One connection that is kept, as Label Studio's sessions keep theirs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)

    def post(self, body: bytes) -> float:
        """Seconds to a prediction. Raises RuntimeError for any other answer."""
        return self._ask("POST", "/predict", body)

    def get(self, path: str) -> float:
        """Seconds to the answer."""
        return self._ask("GET", path, None)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> float:
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        took = time.perf_counter() - began
        if answer.status != 200 or b'"error"' in content:
            raise RuntimeError(f"{answer.status}: {content[:300]!r}")
        return took


def closed_loop(url: str, clients: int, each: Sequence[Sequence[bytes]]) -> Load:
    """So many clients at the same time, each with bodies of his own, one after the other."""
    latencies: list[float] = []
    failures: list[BaseException] = []

    def run(bodies: Sequence[bytes]) -> None:
        try:
            with Client(url) as client:
                latencies.extend([client.post(body) for body in bodies])
        except (RuntimeError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(each[i],)) for i in range(clients)]
    took = seconds(lambda: ([t.start() for t in threads], [t.join() for t in threads]))
    if failures:
        raise failures[0]
    return Load(len(latencies) / took, latencies)


def open_loop(url: str, per_s: float, bodies: Sequence[bytes]) -> Load:
    """Requests at a steady rate, whether or not the ones before are answered."""
    latencies: list[float] = []
    failures: list[BaseException] = []
    start = time.perf_counter() + 0.1

    def run(number: int, body: bytes) -> None:
        try:
            due = start + number / per_s
            time.sleep(max(0.0, due - time.perf_counter()))
            with Client(url) as client:
                client.post(body)
            latencies.append(time.perf_counter() - due)
        except (RuntimeError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(bodies)]
    took = seconds(lambda: ([t.start() for t in threads], [t.join() for t in threads]))
    if failures:
        raise failures[0]
    return Load(len(latencies) / took, latencies)
