"""The service as its users start it: `make serve`, here with a port of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.support.paths import ROOT
from tests.support.processes import end_leftovers, free_port, running
from tests.support.ray_environment import beside_others


@contextmanager
def service_running(environment: Mapping[str, str], folder: Path, log: Path) -> Iterator[str]:
    """Run the service until the block ends; yield its address. Fail if a process is left."""
    port = free_port()
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"]["port"] = port
    copy = folder / "serve_config.yaml"
    copy.write_text(yaml.safe_dump(config))
    binaries = Path(sys.executable).parent
    url = f"http://127.0.0.1:{port}"
    # Ray's sockets live in its folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_folder:
        whole = {
            "PATH": f"{binaries}{os.pathsep}{os.defpath}",
            "HOME": str(folder),
            **beside_others(Path(ray_folder)),
            "RAY_ADDRESS": "local",  # never the Ray of a neighbour
            "RAY_USAGE_STATS_ENABLED": "0",
            **environment,
        }
        try:
            with running(["make", "serve", f"CONFIG={copy}"], whole, log, f"{url}/health"):
                yield url
        finally:
            left = end_leftovers("RAY_TMPDIR", ray_folder)
        assert not left, f"These processes outlive `make serve`: {sorted(left)}"
