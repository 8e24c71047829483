"""HTTP load: one keep-alive client, a closed loop of clients, and an open loop at a steady rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit

from benchmarks.measurement import seconds

_TIMEOUT_S = 300  # the longest request_deadline_s of a benchmark


@dataclass(frozen=True, slots=True)
class Load:
    """Result of a load: requests per second, and the latency of each request in seconds."""

    per_s: float
    latencies_s: list[float]


class Client:
    """One keep-alive connection, as Label Studio's HTTP sessions hold one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)

    def post(self, body: bytes) -> float:
        """Return the seconds of a prediction. Raises RuntimeError for any other answer."""
        return self._request("POST", "/predict", body)

    def get(self, path: str) -> float:
        """Return the seconds of a GET request. Raises RuntimeError for an error status."""
        return self._request("GET", path, None)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _request(self, method: str, path: str, body: bytes | None) -> float:
        started_at = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        taken_s = time.perf_counter() - started_at
        if response.status != 200 or b'"error"' in content:
            raise RuntimeError(f"{response.status}: {content[:300]!r}")
        return taken_s


def closed_loop(url: str, clients: int, bodies: Sequence[Sequence[bytes]]) -> Load:
    """Run concurrent clients that each send their own bodies one after the other.

    Raises the first error of a client.
    """
    latencies: list[float] = []
    failures: list[BaseException] = []

    def run(own_bodies: Sequence[bytes]) -> None:
        try:
            with Client(url) as client:
                latencies.extend([client.post(body) for body in own_bodies])
        except (RuntimeError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(bodies[i],)) for i in range(clients)]
    taken_s = _run_all(threads, failures)
    return Load(len(latencies) / taken_s, latencies)


def open_loop(url: str, per_s: float, bodies: Sequence[bytes]) -> Load:
    """Send requests at a steady rate, regardless of earlier ones that are still open.

    A latency counts from the time at which its request was due. Raises a request's first error.
    """
    latencies: list[float] = []
    failures: list[BaseException] = []
    start = time.perf_counter() + 0.1  # the threads are started before the first request is due

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
    taken_s = _run_all(threads, failures)
    return Load(len(latencies) / taken_s, latencies)


def _run_all(threads: Sequence[threading.Thread], failures: Sequence[BaseException]) -> float:
    """Run threads to their end and return the seconds. Raises the first failure."""
    taken_s = seconds(lambda: ([t.start() for t in threads], [t.join() for t in threads]))
    if failures:
        raise failures[0]
    return taken_s
