"""Ray nodes on this machine, each started as an operator starts them.

Each is a session of its own, so that all its processes are found, and ended by their ids, whatever
became of the one that started them.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.ray_environment import beside_others

DETECTORS = 2  # in the session's steady cluster
PATIENCE_S = 180


def wait_for(what: str, truth: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Wait until the condition is true; return the seconds."""
    began = time.monotonic()
    while not truth():
        if time.monotonic() - began > patience_s:
            raise TimeoutError(f"Not within {patience_s:g} s: {what}.")
        time.sleep(0.1)
    return time.monotonic() - began


def _runs() -> bool:
    status = serve.status().applications["prelabel"]
    if status.status == "DEPLOY_FAILED":
        raise RuntimeError(status.message)
    return status.status == "RUNNING"


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((ray.util.get_node_ip_address(), port)) == 0  # type: ignore[no-untyped-call]


def processes(session: int) -> dict[int, str]:
    """Ids and titles of the processes of a session, and of those that they started in another."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            number = int(folder.name)
            parents[number], titles[number] = int(parent), title.strip()
            found |= {number} if int(owner) == session else set()
    while started := {child for child, parent in parents.items() if parent in found} - found:
        found |= started
    return {number: titles[number] for number in found}


class Node:
    """One Ray node: `ray start --block`, and everything that it starts."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *arguments]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> dict[int, str]:
        """Ids and titles."""
        return processes(self._process.pid)

    @property
    def runs(self) -> bool:
        """True while the node's command runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill the node at once, as a machine that is withdrawn."""
        end(self._process)


def end(leader: subprocess.Popen[bytes]) -> None:
    """Kill all processes of the session."""
    deadline = time.monotonic() + 30
    while left := processes(leader.pid):
        for process in left:
            _kill(process)
        leader.poll()
        assert time.monotonic() < deadline, f"They do not end: {left}"
        time.sleep(0.05)
    leader.wait(10)


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


@dataclass
class Cluster:
    """A head with CPUs, and nodes with a fake GPU each."""

    folder: Path
    environment: dict[str, str]
    gcs_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Address of Ray's control store."""
        return f"{ray.util.get_node_ip_address()}:{self.gcs_port}"  # type: ignore[no-untyped-call]

    @property
    def url(self) -> str:
        """Address of the service."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def log(self) -> Path:
        """File with the output of the nodes' commands."""
        return self.folder / "nodes.log"

    def start_head(self, *arguments: str) -> Node:
        """Start a smaller head of cluster.yaml's kind, without the files of an earlier one."""
        self.environment["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="head-", dir=self.folder)
        return self._start(
            "--head",
            f"--port={self.gcs_port}",
            "--num-cpus=4",
            "--num-gpus=0",
            f"--ray-client-server-port={free_port()}",
            "--include-dashboard=false",
            *arguments,
        )

    def add_node(self) -> Node:
        """Start a node that holds a detector."""
        wait_for("Ray's control store listens", lambda: _listens(self.gcs_port))
        role = "--labels=prelabel/role=detector"
        return self._start(f"--address={self.address}", role, "--num-cpus=2", "--num-gpus=1")

    def remove(self, node: Node) -> None:
        """Kill a node at once."""
        node.end()
        self.nodes.remove(node)

    def _start(self, *arguments: str) -> Node:
        common = (
            f"--object-store-memory={100 * 1024 * 1024}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--dashboard-agent-listen-port=0",
            "--include-log-monitor=false",
        )
        node = Node([*arguments, *common], self.environment, self.log)
        self.nodes.append(node)
        # Nodes that start together may take the same names for their sockets.
        wait_for("Ray starts a node", lambda: self._is_there(node))
        return node

    def wait(self) -> None:
        """Wait until all nodes belong to the cluster."""
        wait_for("the nodes belong to the cluster", lambda: self._alive() == len(self.nodes))

    def _is_there(self, node: Node) -> bool:
        if not node.runs:
            raise RuntimeError("Ray does not start.")
        return any("raylet/raylet" in title for title in node.processes().values())

    def _alive(self) -> int:
        with self.driver():
            return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]

    def replicas(self, deployment: str) -> dict[int, Node]:
        """Process ids of a deployment's replicas, and the nodes that they are on."""
        return self.titled(f"ray::ServeReplica:prelabel:{deployment}")

    def titled(self, start: str) -> dict[int, Node]:
        """Return the processes whose title has this prefix, with their nodes."""
        return {
            process: node
            for node in self.nodes
            for process, title in node.processes().items()
            if title.startswith(start)
        }

    @contextmanager
    def driver(self) -> Iterator[None]:
        """Connect this process to the cluster until the block ends."""
        ours = signal.getsignal(signal.SIGTERM)
        ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, ours)  # Ray has put its own there

    def deploy(self, config: dict[str, Any]) -> None:
        """Deploy as `serve deploy` does; return once the application runs."""
        config = config | {"http_options": config["http_options"] | {"port": self.http_port}}
        with self.driver():
            serve.start(
                proxy_location=config["proxy_location"], http_options=config["http_options"]
            )
            client = serve.context._get_global_client()
            assert client is not None
            client.deploy_apps(ServeDeploySchema.model_validate(config), _blocking=False)
            wait_for("the application runs", _runs)

    def last_words(self) -> str:
        """Return the tails of the logs of the nodes' commands and of Serve's controller."""
        serve_logs = self.folder.glob("head-*/ray/session_2*/logs/serve/controller*.log")
        logs = [self.log, *sorted(serve_logs)]
        return "\n".join(f"{log}:\n{log.read_text()[-4000:]}" for log in logs if log.exists())

    def end(self) -> None:
        """Kill all nodes and remove their files."""
        for node in self.nodes:
            node.end()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def cluster(environment: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Yield a cluster without nodes, separate from other Rays on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir="/tmp"))  # paths of sockets are short
    own = {**beside_others(folder), "PYTHONPATH": f"{folder}:{ROOT}"}
    # SIGTERM raises KeyboardInterrupt here, so that the nodes are ended before this process.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = Cluster(folder, {**os.environ, **own, **(environment or {})})
    try:
        yield made
    except BaseException as error:
        error.add_note(made.last_words())
        raise
    finally:
        made.end()
        signal.signal(signal.SIGTERM, before)


def production_config(
    *,
    import_path: str = "tests.support.pixel_app:build_app",
    args: Mapping[str, Any] | None = None,
    detector: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """serve_config.production.yaml on small nodes of loopback, and quicker to scale."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.production.yaml").read_text())
    config["http_options"] |= {"host": "127.0.0.1"}
    (application,) = config["applications"]
    application["import_path"] = import_path
    application["args"]["model"]["name"] = "demo"
    application["args"] |= {"prompts": {"file": ""}} | dict(args or {})
    for deployment in application["deployments"]:
        deployment["graceful_shutdown_timeout_s"] = 20
        if deployment["name"] == "Detector":
            deployment["autoscaling_config"] |= {
                "max_replicas": 3,
                "target_ongoing_requests": 4,
                "upscale_delay_s": 1,
                "downscale_delay_s": 5,
                "downscale_to_zero_delay_s": 5,
            } | dict(detector or {})
        elif deployment["name"] == "Ingress":
            deployment["autoscaling_config"]["max_replicas"] = 2
    return config


def steady_config(**changes: object) -> dict[str, object]:
    """Return the config of the `steady` fixture."""
    fixed = {"min_replicas": DETECTORS, "max_replicas": DETECTORS}
    return production_config(detector=fixed, **changes)  # type: ignore[arg-type]
