"""The reference of the HTTP API, from the OpenAPI document of the service's own routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docs.generators.markdown_table import table
from prelabel.settings import Environment
from tests.support.local_service import LocalService

Json = dict[str, Any]

_REF = "#/components/schemas/"


def document() -> Json:
    """Return the OpenAPI document that the service has at /openapi.json."""
    api = LocalService(Environment()).app
    answer: Json = api.openapi()
    return answer


def reference() -> str:
    """Return the reference in Markdown: a section for each route, then the bodies' schemas."""
    described = document()
    return "\n".join([*_routes(described), *_schemas(described)])


def _routes(described: Json) -> Iterator[str]:
    yield "## Routes"
    yield ""
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            yield f"### {method.upper()} {path}"
            yield ""
            yield route.get("description", route["summary"])
            yield ""
            yield from _parameters(route.get("parameters", []))
            yield from _body(route)
            yield from _answers(route["responses"])


def _parameters(parameters: list[Json]) -> Iterator[str]:
    if parameters:
        rows = (
            (
                f"`{each['name']}`",
                each["in"],
                _type(each["schema"]),
                "yes" if each.get("required") else "",
                each.get("description", ""),
            )
            for each in parameters
        )
        yield from table(("parameter", "in", "type", "required", "meaning"), rows)
        yield ""


def _body(route: Json) -> Iterator[str]:
    content = route.get("requestBody", {}).get("content", {})
    for kind, body in content.items():
        yield f"Body: {_type(body['schema'])} (`{kind}`)."
        yield ""


def _answers(responses: Json) -> Iterator[str]:
    rows = []
    for status, answer in responses.items():
        content = answer.get("content", {})
        kinds = ", ".join(f"`{kind}`" for kind in content) or "no body"
        types = ", ".join(
            filter(None, (_type(each.get("schema", {})) for each in content.values()))
        )
        rows.append((f"`{status}`", kinds, types, _sentence(answer["description"])))
    yield from table(("status", "content", "type", "meaning"), rows)
    yield ""


def _sentence(description: str) -> str:
    return "Done" if description == "Successful Response" else description


def _schemas(described: Json) -> Iterator[str]:
    yield "## Bodies"
    yield ""
    for name, schema in described["components"]["schemas"].items():
        yield f"### {name}"
        yield ""
        if schema.get("description"):
            yield schema["description"]
            yield ""
        fields = schema.get("properties", {})
        required = schema.get("required", [])
        rows = (
            (
                f"`{field}`",
                _type(facts),
                "yes" if field in required else "",
                facts.get("description", ""),
            )
            for field, facts in fields.items()
        )
        if fields:
            yield from table(("field", "type", "required", "meaning"), rows)
        else:
            yield _type(schema) or "Any JSON value."
        yield ""


def _type(schema: Json) -> str:
    """Return the type of a value in words, with links to the schemas of bodies."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema or "oneOf" in schema:
        each = schema.get("anyOf") or schema["oneOf"]
        return " or ".join(dict.fromkeys(filter(None, map(_type, each))))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum") or [schema["const"]]
        return ", ".join(f"`{value}`" for value in values)
    kind = str(schema.get("type", ""))
    if kind == "array":
        items = _type(schema.get("items", {}))
        return f"list of {items}" if items else "list"
    return {"object": "object", "string": "text", "": ""}.get(kind, kind) + _bounds(schema)


def _bounds(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None or high is None:
        return ""
    return f", {low:g} to {high:g}"
