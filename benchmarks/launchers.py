"""Start and stop the servers under test: the service on its own Ray cluster, the Flask server."""

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

from prelabel.settings.paths import PROJECT_ROOT
from tests.support.processes import free_port

_START_TIMEOUT_S = 120


@contextmanager
def service(
    args: Mapping[str, Any],
    *,
    import_path: str = "serve_app:build_app",
    detectors: int = 1,
    detector_cpus: float | None = None,
) -> Iterator[str]:
    """Run the service with serve_config.yaml and a fixed number of detectors; yield its URL.

    Args:
        args: Settings that replace those of serve_config.yaml.
        import_path: The application's builder.
        detectors: Number of Detector replicas.
        detector_cpus: CPUs that Ray reserves for each; None for the config's value.
    """
    shipped = yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text())
    config = copy.deepcopy(shipped)
    application = config["applications"][0]
    application["import_path"] = import_path
    application["args"] |= {"prompts": {"file": ""}} | args
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
    """Fix the number of Detector replicas in an application of a Serve config.

    cpus: CPUs that Ray reserves for each replica; None leaves the config's value.
    """
    for deployment in application["deployments"]:
        if deployment["name"] == "Detector":
            del deployment["autoscaling_config"]
            deployment["num_replicas"] = detectors
            if cpus is not None:
                deployment["ray_actor_options"] = {"num_cpus": cpus}


@contextmanager
def flask_server(model: str) -> Iterator[str]:
    """Run the Flask server of `flask_app.py` under gunicorn with a model; yield its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(Path(sys.executable).with_name("gunicorn")),
        *("--workers", "1", "--threads", "8", "--timeout", "0", "--log-level", "error"),
        *("--bind", url.removeprefix("http://"), "benchmarks.flask_app:app"),
    ]
    # gunicorn imports the app itself, so the model's name can only be passed by the environment.
    environment = os.environ | {"PRELABEL_BENCH_MODEL": model}
    with subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment) as process:
        try:
            _wait_for(f"{url}/health")
            yield url
        finally:
            process.terminate()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"{address} does not answer.")


def replicas_rss() -> dict[str, int]:
    """Return the resident bytes of the replicas and the proxy, by process title and id."""
    rss: dict[str, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0 ")
            pages = int((folder / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if title.startswith(("ray::ServeReplica:prelabel", "ray::ProxyActor")):
            rss[f"{title.partition('.')[0]} {folder.name}"] = pages * os.sysconf("SC_PAGE_SIZE")
    return rss
