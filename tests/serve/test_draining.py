"""The preStop hook of deploy/kubernetes, on a Ray of three nodes.

It runs in a process of its own, because this one has a Ray already."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.paths import ROOT

PORTS = {  # beside this session's service
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "18500",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "19101",
    "RAY_SERVE_HAPROXY_STATS_PORT": "18404",
}

PROGRAM = """
import asyncio, os, signal, subprocess, sys, time, urllib.request
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve
from ray.cluster_utils import Cluster

PORT = 19190


@serve.deployment(num_replicas=2, max_ongoing_requests=10, graceful_shutdown_wait_loop_s=1)
class Slow:
    async def __call__(self, request):
        await asyncio.sleep(8)
        return ray.get_runtime_context().get_node_id()


def call(_):
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=90) as answer:
        return answer.read().decode()


def alive():
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
ending, staying = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=2)
ray.init(address=cluster.address)
serve.start(proxy_location="EveryNode", http_options={"port": PORT})
serve.run(Slow.bind())
here = f"ray drain-node --address={cluster.address} --node-id={ending.node_id}"
script = sys.argv[1].replace("ray drain-node", here)
with ThreadPoolExecutor(8) as callers:
    answers = [callers.submit(call, None) for _ in range(8)]
    time.sleep(2)
    hook = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    try:
        nodes = {answer.result() for answer in answers}
        assert nodes == {ending.node_id, staying.node_id}, nodes
        assert hook.poll() is None, "the hook does not wait"
        until = time.monotonic() + 90
        while ending.node_id in alive():
            assert time.monotonic() < until, "the node stays"
            time.sleep(0.5)
        assert call(None) == staying.node_id
    finally:
        if hook.poll() is None:
            os.killpg(hook.pid, signal.SIGKILL)
serve.shutdown()
ray.shutdown()
cluster.shutdown()
"""


def test_requests_on_a_node_that_ends_are_answered_and_then_ray_leaves_it() -> None:
    (service,) = yaml.safe_load_all((ROOT / "deploy/kubernetes/base/rayservice.yaml").read_text())
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    *_, hook = container["lifecycle"]["preStop"]["exec"]["command"]
    command = [sys.executable, "-c", PROGRAM, hook]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in the image
    done = subprocess.run(
        command,
        env=os.environ | {"PATH": path} | PORTS,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
