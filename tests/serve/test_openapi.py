"""Requests generated from the OpenAPI description, valid and invalid, never cause a 5xx."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.service_client import Service

ROUTES = {
    *("GET /", "GET /health", "GET /versions", "GET /is_training", "GET /metrics", "GET /prompts"),
    *("POST /versions", "POST /setup", "POST /predict", "POST /webhook", "POST /train"),
    *("GET /errors", "DELETE /prompts", "GET /playground/facts"),
    *("POST /playground/candidates", "POST /playground/masks", "POST /playground/export"),
}
TAKE_NOTHING = {"GET /", "GET /health", "GET /versions", "GET /is_training", "GET /metrics"}
TAKE_NOTHING |= {"GET /playground/facts"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="session")
def described(service: Service) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json", timeout=30)


def test_every_route_is_described(service: Service) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    described = {
        f"{method.upper()} {path}" for path, methods in paths.items() for method in methods
    }
    assert described == ROUTES


@pytest.mark.parametrize(
    ("route", "mode"),
    [
        *((route, GenerationMode.POSITIVE) for route in sorted(ROUTES)),
        *((route, GenerationMode.NEGATIVE) for route in sorted(ROUTES - TAKE_NOTHING)),
    ],
)
def test_no_request_is_an_error_of_the_service(
    route: str, mode: GenerationMode, described: Any, service: Service
) -> None:
    method, path = route.split(" ")
    cases = described[path][method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=50,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(session=service.session, checks=CHECKS, timeout=30)

    ask()
