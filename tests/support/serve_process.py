"""Applications on a Ray of their own, in a process of its own.

Usage: `python -m tests.support.serve_process CONFIG`.

It prints the folder of Serve's logs once the applications run, and ends when its input ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT
from tests.support.ray_environment import RAY_ENV, beside_others

PATIENCE_S = 180


def shipped_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    return config


def environment(folder: str) -> dict[str, str]:
    """Return the environment of `make serve`, with files and ports of its own."""
    return {**os.environ, **RAY_ENV, **beside_others(Path(folder))}


@contextmanager
def serving(config: dict[str, Any], variables: dict[str, str] | None = None) -> Iterator[Path]:
    """Run the applications until the block ends; yield the folder of Serve's logs.

    variables: more of the environment.
    """
    with tempfile.TemporaryDirectory(prefix="pre-", dir="/tmp") as folder:  # sockets' paths
        command = [sys.executable, "-m", "tests.support.serve_process", json.dumps(config)]
        with (
            (Path(folder) / "stderr").open("w+") as said,
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(folder) | (variables or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith("logs: "):
                        yield Path(line.removeprefix("logs: ").strip())
                        break
                else:
                    said.seek(0)
                    raise RuntimeError(said.read()[-3000:])
            finally:
                process.stdin.close()
                process.stdout.read()


def main() -> None:
    import ray
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    config = json.loads(sys.argv[1])
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options=config["http_options"], logging_config=config["logging_config"])
        client = serve.context._get_global_client()
        assert client is not None
        client.deploy_apps(ServeDeploySchema.model_validate(config), _blocking=False)
        began = time.monotonic()
        while {each.status for each in serve.status().applications.values()} != {"RUNNING"}:
            if time.monotonic() - began > PATIENCE_S:
                raise TimeoutError(serve.status())
            time.sleep(0.5)
        node = ray._private.worker._global_node
        assert node is not None
        session = node.get_session_dir_path()
        sys.stdout.write(f"logs: {session}/logs/serve\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


if __name__ == "__main__":
    main()
