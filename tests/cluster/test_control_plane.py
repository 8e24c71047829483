"""Ray's ports of a service that `make serve` started refuse calls without its token."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import pytest
import yaml

from deploy.image_probe import call_gcs, request
from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.ray_cluster import end, processes, wait_for
from tests.support.ray_environment import beside_others

OPEN = {"RAY_AUTH_MODE": "disabled"}
DRIVER = "import ray, sys; ray.init(address=sys.argv[1]); print('inside')"


@dataclass(frozen=True)
class ControlPlane:
    """gcs: address of Ray's control store; home: of the user who started the service."""

    gcs: str
    dashboard_port: int
    home: Path
    environment: dict[str, str]

    def driver(self, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """A program that would run code on the cluster."""
        with tempfile.TemporaryDirectory() as elsewhere:
            return subprocess.run(
                [sys.executable, "-c", DRIVER, self.gcs],
                env=self.environment | {"HOME": elsewhere, "RAY_TMPDIR": elsewhere} | environment,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )

    @property
    def token(self) -> str:
        return (self.home / ".ray" / "auth_token").read_text().strip()


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="nodes-", dir="/tmp") as folder:
        home = Path(folder)
        config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        port = config["http_options"]["port"] = free_port()
        config["applications"][0]["args"] |= {"prompts": {"file": ""}}
        (home / "config.yaml").write_text(yaml.safe_dump(config))
        own = {"HOME": folder, **beside_others(home)}
        log = home / "log"
        # The environment is not installed again: the tests run in it.
        command = ["make", "-o", ".venv/serve.stamp", "serve", f"CONFIG={home}/config.yaml"]
        with log.open("w") as output:
            service = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment | own,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for("it answers", lambda: _answers(service, port, log))
            dashboard = re.search(r"dashboard at .*?127\.0\.0\.1:(\d+)", log.read_text())
            assert dashboard is not None, log.read_text()
            [gcs] = {
                address
                for title in processes(service.pid).values()
                for address in re.findall(r"raylet/raylet .*--gcs-address=(\S+)", title)
            }
            yield ControlPlane(gcs, int(dashboard[1]), home, environment)
        finally:
            service.send_signal(signal.SIGINT)
            end(service)


def _answers(service: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert service.poll() is None, log.read_text()
    with suppress(OSError, HTTPException):
        return request("127.0.0.1", port, "/health")[0] == 200
    return False


def test_the_job_api_wants_the_token(control_plane: ControlPlane, tmp_path: Path) -> None:
    job = json.dumps({"entrypoint": f"touch {tmp_path}/intruder"})
    port = control_plane.dashboard_port
    for path, body in (("/api/jobs/", job), ("/api/jobs/", None), ("/api/cluster_status", None)):
        status, _ = request("127.0.0.1", port, path, body)
        assert status == 401, path
    assert not (tmp_path / "intruder").exists()


def test_the_control_store_wants_the_token(control_plane: ControlPlane) -> None:
    gcs = control_plane.gcs
    assert call_gcs(gcs, "") == "UNAUTHENTICATED"
    assert call_gcs(gcs, secrets.token_hex(32)) == "UNAUTHENTICATED"
    assert call_gcs(gcs, control_plane.token) == "OK"


@pytest.mark.parametrize(
    "environment",
    [OPEN, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}],
    ids=["no token", "wrong token"],
)
def test_a_driver_wants_the_token(control_plane: ControlPlane, environment: dict[str, str]) -> None:
    done = control_plane.driver(environment)
    assert done.returncode != 0
    assert "inside" not in done.stdout


def test_a_driver_with_the_token_gets_in(control_plane: ControlPlane) -> None:
    right = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": control_plane.token}
    done = control_plane.driver(right)
    assert done.stdout.strip().endswith("inside"), done.stderr[-2000:]


def test_the_dashboard_listens_to_this_machine_only(control_plane: ControlPlane) -> None:
    addresses = Path("/proc/net/tcp").read_text()
    port = f":{control_plane.dashboard_port:04X}"
    listening = [
        line.split()[1].partition(":")[0]
        for line in addresses.splitlines()[1:]
        if line.split()[1].endswith(port) and line.split()[3] == "0A"
    ]
    assert listening == ["0100007F"]
