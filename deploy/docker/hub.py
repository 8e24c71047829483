"""A model hub of one repository, for image_test.sh: `python hub.py PORT_FILE REPOSITORY FOLDER`.

It serves the folder's files on loopback as the hub does, with their hashes, and counts nothing: who
holds the download to the hashes is `prelabel download`.
"""

import hashlib
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def answer_for(repository: str, folder: Path) -> type[BaseHTTPRequestHandler]:
    """The server's answers."""
    resolve = re.compile(rf"/{re.escape(repository)}/resolve/(\w+)/([\w.]+)")

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            found = resolve.fullmatch(self.path)
            path = folder / found[2] if found else folder
            if found is None or not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", found[1])
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    return Answer


def main(port_file: Path, repository: str, folder: Path) -> None:
    """Serve until killed; the port is in the file once the server listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), answer_for(repository, folder)) as server:
        port_file.write_text(str(server.server_port))
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
