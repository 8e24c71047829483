"""A Prometheus with the project's config, on a free port of this machine for some time."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
_UNPACKED = HERE.parents[1] / "artifacts" / "prometheus" / "usr" / "bin"
_START_S = 30


def find_prometheus() -> str | None:
    """Return the program: on the path, or unpacked by fetch.sh; None without one."""
    return shutil.which("prometheus") or shutil.which("prometheus", path=str(_UNPACKED))


@contextmanager
def prometheus_running(
    program: str,
    discovery: Mapping[str, Sequence[Any]],
    scrape_s: int,
    rules: str,
    folder: Path,
    values: Path | None = None,
) -> Iterator[str]:
    """Run a Prometheus for the block; gives its address.

    Args:
        program: The program.
        discovery: The part of a scrape job that names its targets, such as `static_configs`.
        scrape_s: Seconds between two scrapes.
        rules: Text of the alerts' file.
        folder: Receives the config and the log.
        values: Folder of the values; by default in `folder`.

    Raises TimeoutError with the end of the log if it does not start.
    """
    config = yaml.safe_load((HERE / "prometheus.yml").read_text())
    every = f"{scrape_s}s"
    config["global"] = {"scrape_interval": every, "evaluation_interval": every}
    [job] = config["scrape_configs"]
    del job["file_sd_configs"]
    job |= discovery
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "alerts.yml").write_text(rules)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [
        program,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={values or folder / 'values'}",
        f"--web.listen-address={address}",
    ]
    log = folder / "log"
    with log.open("w") as output, subprocess.Popen(command, stderr=output) as process:  # noqa: S603
        try:
            _wait_until_ready(f"http://{address}", log)
            yield f"http://{address}"
        finally:
            process.terminate()


def _wait_until_ready(url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            opener.open(f"{url}/-/ready", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(log.read_text()[-2000:])
