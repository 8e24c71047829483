"""The routes of the playground: its page, the files, and what its requests refuse."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from deployments.playground import prefers_html
from prelabel.playground.assets import load_assets
from prelabel.playground.examples import FILES
from prelabel.settings import AppSettings, Environment, ImageSettings, PromptSettings
from prelabel.settings.playground import PlaygroundSettings
from tests.support.local_service import LocalService
from tests.support.scenes import data_uri, encoded

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
USER = {"BASIC_AUTH_USER": "annotator", "BASIC_AUTH_PASS": "secret"}


@pytest.fixture(scope="module")
def service() -> LocalService:
    return LocalService(Environment())


def picture(size: tuple[int, int] = (64, 48)) -> str:
    return data_uri(encoded(Image.new("RGB", size, "white")))


def post(service: LocalService, path: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **headers}
    return service.ask("POST", f"/playground/{path}", content, headers)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("*/*", False),
        ("", False),
        ("application/json, text/plain, */*", False),
        ("text/html, application/json", False),
        ("text/html;q=0.2, application/json;q=0.9", False),
        ("application/json;q=0.5, text/html;q=0.9", True),
        ("text/html;q=much", False),
    ],
)
def test_browsers_are_known_by_what_they_accept(accept: str, expected: bool) -> None:
    assert prefers_html(accept) is expected


def test_the_root_sends_browsers_to_the_page_and_all_others_the_state(
    service: LocalService,
) -> None:
    sent = service.ask("GET", "/", headers={"accept": BROWSER})
    assert (sent.status_code, sent.headers["location"]) == (307, "playground")
    state = service.ask("GET", "/", headers={"accept": "*/*"})
    assert state.json() == service.ask("GET", "/health", headers={"accept": BROWSER}).json()
    assert sent.headers["vary"] == state.headers["vary"] == "Accept"
    slash = service.ask("GET", "/playground/")
    assert (slash.status_code, slash.headers["location"]) == (307, "../playground")


def test_every_file_of_the_page_has_a_tag_and_strict_headers(service: LocalService) -> None:
    assert "index.html" in load_assets()
    for path in ("/playground", *(f"/playground/{name}" for name in load_assets())):
        answer = service.ask("GET", path)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-cache"
        tag = answer.headers["etag"]
        known = service.ask("GET", path, headers={"if-none-match": tag})
        assert (known.status_code, known.content) == (304, b"")
        assert service.ask("HEAD", path).headers["etag"] == tag


@pytest.mark.parametrize(
    "name",
    [
        *(
            "__init__.py",
            "..%2f..%2f..%2fpyproject.toml",
            "../routes.py",
            "%2e%2e/%2e%2e/README.md",
        ),
        *("examples/ATTRIBUTION.md", "examples/..%2fcases.json", "examples/thumbnails/x.jpg"),
        *("examples/beach.jpg", "index.html%00", "page/index.html"),
    ],
)
def test_no_other_file_is_served(service: LocalService, name: str) -> None:
    assert service.ask("GET", f"/playground/{name}").status_code == 404


def test_examples_are_small_and_upright(service: LocalService) -> None:
    examples = service.ask("GET", "/playground/facts").json()["examples"]
    assert [each["file"] for each in examples] == list(FILES)
    for each in examples:
        whole = service.ask("GET", f"/playground/examples/{each['file']}")
        assert whole.headers["content-type"] in ("image/jpeg", "image/png")
        small = service.ask("GET", f"/{each['thumbnail']}")
        assert small.headers["content-type"] == "image/jpeg"
        assert len(small.content) <= 6_000
        width, height = Image.open(BytesIO(small.content)).size
        assert (width > height) == (each["width"] > each["height"])
        found = post(service, "candidates", {"image": f"example:{each['name']}", "prompt": "cat"})
        assert found.json()["image_wh"] == [each["width"], each["height"]]


def test_a_request_of_the_page_stores_nothing_and_is_counted() -> None:
    service = LocalService(Environment())
    found = post(service, "candidates", {"image": picture(), "prompt": "cat . -dog"})
    assert found.status_code == 200
    assert found.json()["phrases"] == [
        {"phrase": "cat", "label": "cat", "dropped": False},
        {"phrase": "dog", "label": None, "dropped": True},
    ]
    assert service.ask("GET", "/prompts").json() == {"prompts": []}
    assert post(service, "candidates", {"image": picture()}).status_code == 422
    counts = service.ask("GET", "/metrics").json()
    assert (counts["playground_requests"], counts["requests_failed"]) == (1, 1)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"image": "http://127.0.0.1:9/a.png", "prompt": "cat"}, 403, "It fetches no addresses"),
        ({"image": "/data/upload/1/a.png", "prompt": "cat"}, 403, "It fetches no addresses"),
        ({"image": "file:///etc/passwd", "prompt": "cat"}, 403, "It fetches no addresses"),
        ({"image": "example:../../README", "prompt": "cat"}, 403, "There is no example"),
        ({"image": "data:text/html;base64,AAAA", "prompt": "cat"}, 403, "is not of the form"),
        ({"image": "data:image/png;base64,AAAA", "prompt": "cat"}, 422, "JPEG, PNG"),
        ({"image": "data:image/png;base64,A", "prompt": "cat"}, 403, "not valid base64"),
        ({"image": "example:garden", "prompt": ""}, 422, "names nothing to look for"),
        ({"image": "example:garden", "prompt": "猫"}, 422, "vocabulary has no word"),
        ({"image": "example:garden", "labels": ["cat"] * 1_001}, 422, "labels"),
        ({"image": "example:garden", "prompt": "cat", "box_threshold": 1}, 422, "box_threshold"),
        ({"prompt": "cat"}, 422, "image"),
    ],
)
def test_a_request_that_cannot_be_answered_is_a_sentence(
    service: LocalService, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = post(service, "candidates", body)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]
    assert answer.json()["error"][-1] in ".!"


def test_pictures_have_the_limits_of_the_settings() -> None:
    settings = AppSettings(
        prompts=PromptSettings(file=""), images=ImageSettings(max_bytes=1_000, max_pixels=10_000)
    )
    service = LocalService(Environment(), settings=settings)
    large = "data:image/png;base64," + base64.b64encode(bytes(1_001)).decode()
    answer = post(service, "candidates", {"image": large, "prompt": "cat"})
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("The picture is larger than 1000 bytes.")


def test_a_body_of_another_type_is_refused_as_browsers_send_it_across_sites(
    service: LocalService,
) -> None:
    body = {"image": "example:garden", "prompt": "cat"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert post(service, "candidates", body, **{"content-type": kind}).status_code == 422
    assert post(service, "candidates", body).status_code == 200
    answer = service.ask("OPTIONS", "/playground/candidates", headers={"origin": "http://evil"})
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_needs_the_same_password_as_the_api() -> None:
    service = LocalService(Environment.model_validate(USER))
    for path in ("/", "/playground", "/playground/facts", "/playground/examples/garden.jpg"):
        answer = service.ask("GET", path, headers={"accept": BROWSER})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (
            401,
            'Basic realm="prelabel"',
        )
    known = {"authorization": f"Basic {base64.b64encode(b'annotator:secret').decode()}"}
    assert service.ask("GET", "/playground", headers=known).status_code == 200
    command = post(service, "export", {"format": "curl", "prompt": "cat"}, **known).text
    assert '--user "$BASIC_AUTH_USER:$BASIC_AUTH_PASS"' in command
    assert "secret" not in command


def test_it_can_be_switched_off() -> None:
    settings = AppSettings(
        prompts=PromptSettings(file=""), playground=PlaygroundSettings(enabled=False)
    )
    service = LocalService(Environment(), settings=settings)
    assert service.ask("GET", "/", headers={"accept": BROWSER}).json()["status"] == "UP"
    assert service.ask("GET", "/playground").status_code == 404
    assert "/playground/facts" not in service.ask("GET", "/openapi.json").json()["paths"]


def test_masks_need_a_segmenter(service: LocalService) -> None:
    body = {"image": picture(), "image_wh": [64, 48], "boxes_xyxy": [[0, 0, 9, 9]]}
    answer = post(service, "masks", body)
    assert answer.status_code == 422
    assert "no segmenter" in answer.json()["error"]
    for box in ([9, 0, 9, 9], [0, 0, 9], [0, 0, 9, 1e9], [-1, 0, 9, 9]):
        assert post(service, "masks", {**body, "boxes_xyxy": [box]}).status_code == 422
