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
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.load_generator import closed_loop, open_loop
from benchmarks.payloads import picture, predict_body, unique_copy
from deploy.monitoring.draw_dashboard import Prometheus, draw

HERE = Path(__file__).resolve().parent
UNPACKED = HERE.parents[1] / "artifacts" / "prometheus" / "usr" / "bin"
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


@contextmanager
def prometheus(discovery: Path, values: Path | None = None) -> Iterator[str]:
    """Run a Prometheus with the project's rules for the block; gives its address.

    Args:
        discovery: The file in which Ray lists its metrics ports.
        values: Folder in which the values stay; None drops them.
    """
    program = shutil.which("prometheus") or shutil.which("prometheus", path=str(UNPACKED))
    if program is None:
        raise SystemExit("needs Prometheus: run deploy/monitoring/fetch.sh")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = yaml.safe_load((HERE / "prometheus.yml").read_text())
        every = f"{SCRAPE_S}s"
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        [job] = config["scrape_configs"]
        job["file_sd_configs"] = [{"files": [str(discovery)]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = re.sub(r"\bfor: \d+m", f"for: {WAIT}", (HERE / "alerts.yml").read_text())
        (folder / "alerts.yml").write_text(rules)
        command = [
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={values or folder / 'values'}",
            f"--web.listen-address={address}",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stderr=log)  # noqa: S603
            try:
                _wait_until_ready(f"http://{address}")
                yield f"http://{address}"
            finally:
                process.terminate()
                process.wait()


def _wait_until_ready(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()  # noqa: S310
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("Prometheus does not start.")


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
    phase_s = options.minutes * 60 / 3
    load = Load(options.service)
    with prometheus(options.discovery, options.values) as address:
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
