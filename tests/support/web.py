"""A web server on loopback in the place of Label Studio and of foreign hosts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.scenes import encoded, scene

CANARY = "canary-token-0123456789abcdef0123456789ab"


@dataclass
class Web:
    """A web server on loopback: /data/... needs the token, /missing gives 404, /data/away/...
    redirects. seen: paths, and their Authorization; heard: all headers, in the same order.
    """

    url: str
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


@contextmanager
def web_server(elsewhere: str) -> Iterator[Web]:
    picture = encoded(scene(), "JPEG", quality=95)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization")
            diary.seen.append((self.path, authorization))
            diary.heard.append(str(self.headers))
            if elsewhere and self.path.startswith("/data/away/"):
                self.send_response(302)
                self.send_header("Location", f"{elsewhere}{self.path.removeprefix('/data')}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            known = not self.path.startswith("/data/") or authorization == f"Token {CANARY}"
            status = 404 if "/missing" in self.path else 200 if known else 401
            # A decoder stops at the end of the picture; another path is another file.
            body = picture + self.path.encode() if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    diary = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield diary
    server.shutdown()
    server.server_close()
    thread.join()
