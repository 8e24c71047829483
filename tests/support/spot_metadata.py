"""Metadata services of AWS and Google Cloud on loopback, as strict as the real ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Metadata:
    """notice: seconds until the machine's end, or none; sign: a file that says that the end comes;
    broken: it answers 500.
    """

    address: str
    sign: Path | None = None
    notice: float | None = None
    broken: bool = False
    asked: list[str] = field(default_factory=list)

    def aws(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if (method, path) == ("PUT", "/latest/api/token"):
            return (200, "tok") if "x-aws-ec2-metadata-token-ttl-seconds" in headers else (400, "")
        if headers.get("x-aws-ec2-metadata-token") != "tok":
            return 401, ""
        if path != "/latest/meta-data/spot/instance-action" or self.notice is None:
            return 404, "<html>Not Found</html>"
        ends = datetime.now(UTC) + timedelta(seconds=self.notice)
        return 200, json.dumps({"action": "terminate", "time": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})

    def gcp(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if headers.get("metadata-flavor") != "Google":
            return 403, ""
        if (method, path) != ("GET", "/computeMetadata/v1/instance/preempted"):
            return 404, ""
        return 200, "FALSE" if self.notice is None else "TRUE"


@contextmanager
def metadata_service(cloud: str, sign: Path | None = None) -> Iterator[Metadata]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            service.asked.append(self.path)
            if service.sign is not None and service.sign.exists():
                service.notice = 60
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = getattr(service, cloud)(self.command, self.path, headers)
            self.send_response(500 if service.broken else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = Metadata(f"127.0.0.1:{server.server_port}", sign)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
