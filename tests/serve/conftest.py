"""One local Ray for the session, and on it the shipped configuration, twice.

`service` is what a user gets from serve_config.yaml; `guarded` has basic auth, a small body limit
and other settings. Both are deployed from the YAML as `serve run` does it. `web` stands in the
place of Label Studio and of the web: it serves one picture under every path, and keeps a diary.
`foreign` is a host that Label Studio redirects to, as it does to cloud storage.
"""

import base64
import copy
import io
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import ray
import requests
import yaml
from PIL import Image, ImageDraw
from ray import serve
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from deployments.placement import place_detector
from tests.e2e.servers import ROOT, free_port

CANARY = "canary-token-0123456789abcdef0123456789ab"
USER, PASSWORD = "annotator", "canary-password"

CONFIG = """<View>
  <TextArea name="prompt" toName="image" maxSubmissions="1"/>
  <Number name="box_threshold" toName="image" min="0" max="1"/>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="red circle"/><Label value="blue square"/><Label value="cat"/>
  </RectangleLabels></View>"""


def scene(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A red circle on the left and a blue square on the right."""
    image = Image.new("RGB", (640, 480), (150, 150, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse([60, 60, 220, 220], fill=(215, 30, 30))
    draw.rectangle([380, 200, 560, 400], fill=(35, 70, 220))
    return image.resize(size)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def data_uri(content: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


SCENE = data_uri(encoded(scene()))
_NUMBERS = itertools.count()
START_S = 240


def fresh(count: int = 1, size: tuple[int, int] = (640, 480)) -> list[str]:
    """The scene, so many times, each a file that nobody has sent: no result is kept for it."""
    picture = encoded(scene(size))
    return [data_uri(picture + b"%d" % next(_NUMBERS)) for _ in range(count)]


@dataclass
class Web:
    """A web server on loopback: /data/... wants the token, /missing is not there, /data/away/...
    is elsewhere. seen: paths, and their Authorization; heard: all headers, in the same order.
    """

    url: str
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def foreign() -> Iterator[Web]:
    with _web("") as diary:
        yield diary


@pytest.fixture(scope="session")
def web(foreign: Web) -> Iterator[Web]:
    with _web(foreign.url) as diary:
        yield diary


@contextmanager
def _web(elsewhere: str) -> Iterator[Web]:
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


@dataclass
class Service:
    """A running application, asked as Label Studio asks."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=100, **options)

    def predict(
        self,
        *images: str,
        context: list[dict[str, Any]] | None = None,
        project: str = "1.1",
        config: str = CONFIG,
    ) -> list[dict[str, Any]]:
        body = {
            "tasks": [{"id": i, "data": {"image": image}} for i, image in enumerate(images)],
            "project": project,
            "label_config": config,
            "params": {"context": None if context is None else {"result": context}},
        }
        answer = self.post("/predict", body)
        assert answer.status_code == 200, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        assert len(results) == len(images)
        return results


def shipped_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    return config


def _application(
    name: str, prefix: str, args: dict[str, Any], env: dict[str, str], detector_cpus: float
) -> Any:
    application = copy.deepcopy(shipped_config()["applications"][0])
    application |= {"name": name, "route_prefix": prefix, "runtime_env": {"env_vars": env}}
    application["args"] |= args
    for deployment in application["deployments"]:
        if deployment["name"] == "Detector":
            # What it would get if there were no second one on this machine.
            environment = place_detector("cpu", []).options["runtime_env"]
            deployment["ray_actor_options"] = {
                "num_cpus": detector_cpus,
                "runtime_env": environment,
            }
    return application


@pytest.fixture(scope="session")
def _applications(
    web: Web, foreign: Web, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    allowed = {"images": {"allowed_hosts": [foreign.url.removeprefix("http://")]}}
    label_studio = {"LABEL_STUDIO_HOST": web.url, "LABEL_STUDIO_ACCESS_TOKEN": CANARY}
    auth = {"BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD, "BOX_THRESHOLD": "0.99"}
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.sqlite"
    config = shipped_config() | {
        "http_options": {"host": "127.0.0.1", "port": 0},
        "applications": [
            _application(
                "prelabel", "/", {"prompts": {"file": str(prompts)}} | allowed, label_studio, 1
            ),
            _application(
                "guarded",
                "/guarded",
                {
                    "limits": {"max_body_bytes": 1_000_000},
                    "prompts": {"unknown_phrases": "reject", "file": ""},
                    "detection": {"tile_size": 700},
                }
                | allowed,
                label_studio | auth,
                0,
            ),
        ],
    }
    config["http_options"]["port"] = free_port()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options=config["http_options"])
        client = serve.context._get_global_client()
        client.deploy_apps(ServeDeploySchema.model_validate(config))
        _wait_until_running(len(config["applications"]))
        yield f"http://127.0.0.1:{config['http_options']['port']}"
    finally:
        serve.shutdown()
        ray.shutdown()


def _wait_until_running(applications: int) -> None:
    """Serve itself would wait for a minute."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = serve.status().applications.values()
        assert not any(each.status == ApplicationStatus.DEPLOY_FAILED for each in found), found
        if [each.status for each in found] == [ApplicationStatus.RUNNING] * applications:
            return
        time.sleep(0.5)
    raise AssertionError(f"not running after {START_S} s: {serve.status()}")


@pytest.fixture(scope="session")
def service(_applications: str) -> Iterator[Service]:
    with requests.Session() as session:
        session.trust_env = False
        yield Service(_applications, session)


@pytest.fixture(scope="session")
def guarded(_applications: str) -> Iterator[Service]:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (USER, PASSWORD)
        yield Service(f"{_applications}/guarded", session)
