"""A stand-in for the Hugging Face Hub with one repository, used by image_test.sh.

`python hub.py PORT_FILE REPOSITORY FOLDER` serves the folder's files on loopback with the hub's
headers. `prelabel download` verifies the checksums itself.
"""

import hashlib
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def handler_for(repository: str, folder: Path) -> type[BaseHTTPRequestHandler]:
    """Return a request handler that serves a folder as a repository."""
    resolve = re.compile(rf"/{re.escape(repository)}/resolve/(\w+)/([\w.]+)")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            match = resolve.fullmatch(self.path)
            path = folder / match[2] if match else folder
            if match is None or not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", match[1])
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    return Handler


def main(port_file: Path, repository: str, folder: Path) -> None:
    """Serve until killed. The port is written to a file once the server listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_for(repository, folder)) as server:
        port_file.write_text(str(server.server_port))
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
