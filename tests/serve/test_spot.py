"""The program of spot workers on a real Ray of several nodes: after the cloud's notice, running
requests are answered and Serve moves its replicas.

It runs in a process of its own, because this one has a Ray already.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.serve_process import environment
from tests.support.spot_metadata import metadata_service

PROGRAM = """
import asyncio, subprocess, sys, time, urllib.request
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve
from ray.cluster_utils import Cluster

port, notice, *command = sys.argv[1:]


@serve.deployment(max_ongoing_requests=10, graceful_shutdown_wait_loop_s=1)
class Slow:
    async def __call__(self, request):
        await asyncio.sleep(float(request.query_params["seconds"]))
        return ray.get_runtime_context().get_node_id()


def call(seconds):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/?seconds={seconds}", timeout=90) as got:
        return got.read().decode()


def until(what, truth):
    deadline = time.monotonic() + 90
    while not truth():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
spot = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address)
serve.start(proxy_location="HeadOnly", http_options={"port": int(port)})
serve.run(Slow.bind())
assert call(0) == spot.node_id
other = cluster.add_node(num_cpus=1)
command += [f"--address={cluster.address}", f"--node-id={spot.node_id}"]
gcs = ray._raylet.GcsClient(address=cluster.address)
with ThreadPoolExecutor(4) as callers, subprocess.Popen(command) as waits:
    try:
        time.sleep(1)
        assert not gcs.get_draining_nodes()
        answers = [callers.submit(call, 15) for _ in range(4)]
        time.sleep(2)
        open(notice, "w").close()
        until("it does not drain", lambda: spot.node_id in gcs.get_draining_nodes())
        assert not any(answer.done() for answer in answers)
        until("Serve does not move", lambda: call(0) == other.node_id)
        assert {answer.result() for answer in answers} == {spot.node_id}
        assert waits.wait(30) == 0
        alive = lambda: {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        until("Ray does not leave", lambda: spot.node_id not in alive())
        assert call(0) == other.node_id
    finally:
        waits.kill()
serve.shutdown()
ray.shutdown()
cluster.shutdown()
"""


def test_after_a_notice_requests_are_answered_and_the_replica_is_elsewhere() -> None:
    ray = Path(sys.executable).with_name("ray")
    with (
        tempfile.TemporaryDirectory(prefix="pre-", dir="/tmp") as folder,
        metadata_service("aws", Path(folder) / "notice") as metadata,
    ):
        waits = [str(ROOT / "deploy" / "spot_notice.py"), "aws", f"--metadata={metadata.address}"]
        waits += ["--every=0.5", f"--lock={folder}/lock", "--", str(ray), "drain-node"]
        command = [sys.executable, "-c", PROGRAM, str(free_port()), f"{folder}/notice"]
        done = subprocess.run(
            [*command, sys.executable, *waits],
            env=environment(folder)
            | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
