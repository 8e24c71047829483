"""A bucket as on S3, kept by moto's server in Label Studio's environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.paths import ROOT
from tests.support.processes import free_port, running

PROGRAM = ROOT / ".venv-labelstudio/bin/moto_server"


@dataclass(frozen=True)
class Bucket:
    """endpoint: the S3 server's address."""

    endpoint: str
    name: str

    def put(self, picture: Path) -> str:
        """Store the picture; its address."""
        url = f"{self.endpoint}/{self.name}/{picture.name}"
        httpx.put(url, content=picture.read_bytes(), trust_env=False).raise_for_status()
        return f"s3://{self.name}/{picture.name}"


@contextmanager
def bucket_running(log: Path) -> Iterator[Bucket]:
    """An empty bucket."""
    port = free_port()
    bucket = Bucket(f"http://127.0.0.1:{port}", "pictures")
    command: list[str | Path] = [PROGRAM, "-H", "127.0.0.1", "-p", str(port)]
    with running(command, {"PATH": os.defpath}, log, bucket.endpoint):
        httpx.put(f"{bucket.endpoint}/{bucket.name}", trust_env=False).raise_for_status()
        yield bucket
