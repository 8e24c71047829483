"""Run a Prometheus beside a service, load the service, and draw the dashboard that results.

make serve
python -m deploy.monitoring.show_dashboard --output docs/operator/images/dashboard.png

The load has annotators, bulk requests, the playground, and for some time pictures that cannot be
read, so that an alert fires. The rules are those of alerts.yml with shorter waits (`for`). Needs
Prometheus on the path, or from fetch.sh.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.load_generator import closed_loop, open_loop
from benchmarks.payloads import picture, predict_body, unique_copy
from deploy.monitoring.draw_dashboard import Prometheus, draw
from deploy.monitoring.local_prometheus import HERE, find_prometheus, prometheus_running

SCRAPE_S = 5
WAIT = "30s"  # of an alert, in place of the minutes in alerts.yml
BROKEN = b"no picture"
ANNOTATORS_PER_S = 0.8


class Load:
    """Requests to a service, in threads, until it is stopped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._picture = picture()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], object], pause_s: float = 0) -> None:
        """Repeat some work until the end. An error of it ends the thread, not the load."""

        def repeat() -> None:
            while not self._stop.wait(pause_s):
                work()

        self._threads.append(threading.Thread(target=repeat, daemon=True))
        self._threads[-1].start()

    def stop(self) -> None:
        """End all work that was started."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._stop.clear()

    def annotate(self) -> None:
        """Send single pictures at a steady rate; every third one is opened again."""
        new = [predict_body(unique_copy(self._picture)) for _ in range(4)]
        open_loop(self._url, ANNOTATORS_PER_S, [*new, new[0], new[1]])

    def predict_all(self) -> None:
        """Send one bulk request."""
        body = predict_body(*(unique_copy(self._picture) for _ in range(6)))
        closed_loop(self._url, 1, [[body]])

    def fail(self) -> None:
        """Send a bulk request of which most pictures cannot be read."""
        good = [unique_copy(self._picture) for _ in range(2)]
        self._post("/predict", predict_body(*good, *[BROKEN] * 3))

    def play(self) -> None:
        """Ask as the playground's page does."""
        body = {"image": "example:garden", "prompt": "frog . horse"}
        self._post("/playground/candidates", json.dumps(body).encode())

    def _post(self, path: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            answer.read()


def alerts(server: Prometheus) -> dict[str, str]:
    """Return the state of each alert that is pending or firing."""
    found: list[dict[str, Any]] = server.get("alerts")["alerts"]
    return {each["labels"]["alertname"]: each["state"] for each in found}


def main() -> None:
    """Load the service, wait for an alert, draw the dashboard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", default="http://127.0.0.1:9090")
    parser.add_argument(
        "--discovery",
        type=Path,
        default=Path("/tmp/ray/prom_metrics_service_discovery.json"),  # noqa: S108
        help="the file in which Ray lists its metrics ports",
    )
    parser.add_argument("--minutes", type=float, default=4, help="of the load")
    parser.add_argument("--values", type=Path, help="folder in which Prometheus keeps its values")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    program = find_prometheus()
    if program is None:
        raise SystemExit("needs Prometheus: run deploy/monitoring/fetch.sh")
    phase_s = options.minutes * 60 / 3
    load = Load(options.service)
    discovery = {"file_sd_configs": [{"files": [str(options.discovery)]}]}
    rules = re.sub(r"\bfor: \d+m", f"for: {WAIT}", (HERE / "alerts.yml").read_text())
    with (
        tempfile.TemporaryDirectory() as folder,
        prometheus_running(
            program, discovery, SCRAPE_S, rules, Path(folder), options.values
        ) as address,
    ):
        server, started = Prometheus(address), time.time()
        for number in range(3):  # annotators alone; bulk requests beside them; broken pictures, too
            load.start(load.annotate)
            load.start(load.play, 4)
            if number >= 1:
                load.start(load.predict_all, 1)
            if number == 2:
                load.start(load.fail, 0.5)
            time.sleep(phase_s)
            load.stop()
            print(f"{time.time() - started:.0f} s: alerts {alerts(server) or 'none'}")  # noqa: T201
        empty = draw(server, started, time.time(), options.output)
    print(f"{options.output}; panels without data: {empty}")  # noqa: T201


if __name__ == "__main__":
    main()
