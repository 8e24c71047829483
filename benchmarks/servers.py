"""Servers to measure, started and stopped: the service on a Ray of its own, the Flask server."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

from prelabel.checkpoints.cards import PROJECT_ROOT
from tests.support.processes import free_port

_START_S = 120


@contextmanager
def service(
    args: Mapping[str, Any],
    *,
    import_path: str = "serve_app:build_app",
    detectors: int = 1,
    detector_cpus: float | None = None,
) -> Iterator[str]:
    """The service as serve_config.yaml has it, with a fixed number of detectors; its address."""
    shipped = yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text())
    config = copy.deepcopy(shipped)
    application = config["applications"][0]
    application["import_path"] = import_path
    application["args"] |= {"prompts_file": ""} | args
    fix_detectors(application, detectors, detector_cpus)
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options=config["http_options"])
        client = serve.context._get_global_client()
        client.deploy_apps(ServeDeploySchema.model_validate(config), _blocking=True)
        yield f"http://127.0.0.1:{config['http_options']['port']}"
    finally:
        serve.shutdown()
        ray.shutdown()


def fix_detectors(application: dict[str, Any], detectors: int, cpus: float | None) -> None:
    """Give an application of a Serve config so many detectors, which take so many CPUs each."""
    for deployment in application["deployments"]:
        if deployment["name"] == "Detector":
            del deployment["autoscaling_config"]
            deployment["num_replicas"] = detectors
            if cpus is not None:
                deployment["ray_actor_options"] = {"num_cpus": cpus}


@contextmanager
def flask_server(model: str) -> Iterator[str]:
    """The smallest server around the same engine; its address."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(Path(sys.executable).with_name("gunicorn")),
        *("--workers", "1", "--threads", "8", "--timeout", "0", "--log-level", "error"),
        *("--bind", url.removeprefix("http://"), "benchmarks.flask_app:app"),
    ]
    environment = os.environ | {"PRELABEL_BENCH_MODEL": model}
    with subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment) as process:
        try:
            _wait_for(f"{url}/health")
            yield url
        finally:
            process.terminate()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"{address} does not answer.")


def replicas_rss() -> dict[str, int]:
    """Resident bytes of this service's replicas and proxy, by process title."""
    found: dict[str, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0 ")
            pages = int((folder / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if title.startswith(("ray::ServeReplica:prelabel", "ray::ProxyActor")):
            found[f"{title.partition('.')[0]} {folder.name}"] = pages * os.sysconf("SC_PAGE_SIZE")
    return found
