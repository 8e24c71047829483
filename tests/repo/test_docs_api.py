"""The request that docs/developer/api.md shows, sent to the service's own routes."""

from __future__ import annotations

import json
import re

import httpx

from docs.generators.api_reference import document, reference
from prelabel.settings import Environment
from tests.support.local_service import LocalService, running
from tests.support.paths import ROOT
from tests.support.scenes import data_uri

PAGE = (ROOT / "docs" / "developer" / "api.md").read_text()


def test_the_curl_of_the_page_gets_the_prediction_that_the_page_promises() -> None:
    """With a picture of the demo, because the page's address is an example."""
    shown = re.search(r"curl -s (\S+) .*?-d @- <<'JSON'\n(.*?)\nJSON", PAGE, re.DOTALL)
    assert shown
    body = json.loads(shown[2])
    picture = (ROOT / "examples" / "demo" / "street.jpg").read_bytes()
    body["tasks"][0]["data"]["image"] = data_uri(picture)
    path = httpx.URL(shown[1]).path
    with running(LocalService(Environment())) as url:
        answer = httpx.post(f"{url}{path}", json=body, trust_env=False).json()
    [entry] = answer["results"]
    [region] = entry["result"]
    assert region["value"].keys() >= {"x", "y", "width", "height"}


def test_the_reference_has_every_route_and_every_body() -> None:
    described = document()
    headings = re.findall(r"^### (.*)$", reference(), re.MULTILINE)
    routes = [
        f"{method.upper()} {path}"
        for path, methods in described["paths"].items()
        for method in methods
    ]
    assert headings == [*routes, *described["components"]["schemas"]]
