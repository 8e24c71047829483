"""A web server with pictures, as on an intranet."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO


class _Quiet(SimpleHTTPRequestHandler):
    def send_head(self) -> io.BytesIO | BinaryIO | None:
        _, _, query = self.path.partition("?")
        path = Path(self.translate_path(self.path))
        if not query or not path.is_file():
            return super().send_head()
        content = path.read_bytes() + query.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest's output is for the tests."""


@contextmanager
def picture_server(folder: Path) -> Iterator[str]:
    """Serve the folder on loopback; yield the address.

    An address with a query gets a picture with these bytes at its end, unlike all others.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
