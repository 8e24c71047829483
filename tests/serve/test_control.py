"""Replicas refuse calls without Ray's token: their messages are pickles, which can run code."""

import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.replicas import replicas
from tests.support.service_client import Service

METHODS = ("HandleRequest", "HandleRequestWithRejection", "HandleRequestStreaming")
LISTEN = "0A"


def listening_ports(process: Path) -> set[int]:
    """Return the TCP ports on which a process of /proc listens."""
    sockets = set()
    for descriptor in (process / "fd").iterdir():
        target = re.match(r"socket:\[(\d+)\]", str(descriptor.readlink()))
        if target:
            sockets.add(target[1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in (process / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in sockets:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def code_of(port: int, method: str, metadata: tuple[Any, ...] = ()) -> grpc.StatusCode:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/ray.serve.ASGIService/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=5, metadata=metadata)
    return refused.value.code()


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer 0123456789abcdef"),)])
@pytest.mark.parametrize("method", METHODS)
def test_calls_to_replicas_want_rays_token(
    service: Service, method: str, metadata: tuple[Any, ...]
) -> None:
    found = replicas()
    assert set(found.values()) >= {"Ingress", "Detector", "Postprocessor", "PromptStore"}
    for process in found:
        codes = {code_of(port, method, metadata) for port in listening_ports(process)}
        assert grpc.StatusCode.UNAUTHENTICATED in codes
        # The others are no gRPC, or know no such method.
        assert codes <= {
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.UNIMPLEMENTED,
        }
