"""Hostile request bodies: never a 5xx, never out of proportion, always a short sentence."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from prelabel.settings import Environment
from tests.support.hostile_images import png
from tests.support.http_server import Network
from tests.support.local_service import LocalService

CANARY = "canary-0123456789abcdef0123456789abcdef"
JSON = {"Content-Type": "application/json", "X-Request-ID": "request-1"}
MOST_BYTES = 150_000_000  # that an answer takes; the largest body here has a million
MOST_SECONDS = 10.0  # of work, and of tracemalloc's

CONFIG = (
    '<View><TextArea name="prompt" toName="image"/><Number name="box_threshold" toName="image"/>'
    '<Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat"/><Label value="red star"/></RectangleLabels></View>'
)
PICTURE = "data:image/png;base64,iVBORw0KGgo="
TYPED = {
    "from_name": "prompt",
    "to_name": "image",
    "type": "textarea",
    "value": {"text": ["cat"], "number": 0.5},
}
PREDICT: dict[str, Any] = {
    "tasks": [
        {
            "id": 1,
            "data": {"image": PICTURE},
            "drafts": [{"result": [TYPED], "updated_at": "2026-01-01T00:00:00Z"}],
        }
    ],
    "project": "1.1",
    "label_config": CONFIG,
    "params": {"context": {"result": [TYPED]}, "login": "a", "password": "b"},
}
SETUP: dict[str, Any] = {
    "project": "1.1",
    "schema": CONFIG,
    "hostname": "http://studio.example",
    "access_token": "x",
    "extra_params": {},
}
WEBHOOK: dict[str, Any] = {
    "action": "ANNOTATION_CREATED",
    "project": {"id": 1, "created_at": "2026-01-01T00:00:00Z", "label_config": CONFIG},
    "annotation": {
        "result": [TYPED],
        "updated_at": "2026-01-01T00:00:00Z",
        "was_cancelled": False,
    },
    "task": {"data": {"image": PICTURE}},
}
BODIES = {
    "/predict": PREDICT,
    "/setup": SETUP,
    "/webhook": WEBHOOK,
    "/versions": {"project": "1.1"},
    "/train": {"annotations": [{"id": 1}]},
}


@pytest.fixture(scope="module")
def service() -> LocalService:
    environment = Environment(
        LABEL_STUDIO_HOST="http://studio.example:8080",
        LABEL_STUDIO_ACCESS_TOKEN=SecretStr(CANARY),
    )
    return LocalService(environment, Network())


def post_large(service: LocalService, path: str, body: object) -> httpx.Response:
    """Return the answer; assert bounds on processor time and memory."""
    encoded = json.dumps(body).encode()
    tracemalloc.start()
    began = time.process_time()
    try:
        answer = post(service, path, encoded)
        seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert seconds < MOST_SECONDS
    return answer


def post(
    service: LocalService, path: str, body: bytes, headers: dict[str, str] = JSON
) -> httpx.Response:
    """Return the answer; assert that it is short, no 5xx, and that errors have the usual form."""
    answer = service.ask("POST", path, body, headers)
    assert answer.status_code < 500, answer.text[:500]
    assert len(answer.content) < 20_000 + 1000 * body.count(b'"data"')
    assert not any(word in answer.text for word in (CANARY, "Traceback", "site-packages", ".py"))
    for error in faults(answer):
        assert error["error"].endswith("."), error
        assert error["error_type"] != "PrelabelError", "this is the name of our own defects"
        assert error["request_id"] == "request-1"
    return answer


def faults(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    found = answer.json()
    if answer.status_code >= 400:
        yield found
    elif "results" in found:
        yield from (entry for entry in found["results"] if "result" not in entry)


def deep(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * levels + closing * levels).encode()


def with_value(body: dict[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A copy that has another value at one place."""
    changed = copy.deepcopy(body)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


def places(body: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths to everything in a body."""
    items = body.items() if isinstance(body, dict) else enumerate(body)
    for name, value in items:
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from places(value, (*path, name))


# Not the JSON that is expected ------------------------------------------------------------------

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "a word": b"tasks",
    "half an object": b'{"tasks": [',
    "two objects": b"{}{}",
    "another encoding": json.dumps(PREDICT).encode("utf-16"),
    "no encoding": b'{"tasks": "\xff\xfe\xed\xa0\x80"}',
    "half a character, encoded": b'{"action": "\xed\xa0\x80"}',
    "a hundred thousand lists": deep(100_000),
    "a hundred thousand objects": deep(100_000, '{"a":', "}"),
    "a hundred thousand open lists": b"[" * 100_000,
    "a number of 5000 digits": b'{"tasks": [{"id": ' + b"9" * 5000 + b'}], "project": 1}',
    "a page": b"<!doctype html><form action=/predict>",
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "zipped": gzip.compress(json.dumps(PREDICT).encode()),
    "pickled": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93.",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json_is_refused_by_every_route(
    name: str, path: str, service: LocalService
) -> None:
    answer = post(service, path, NO_JSON[name])
    assert answer.status_code == 422
    assert "Correct its body." in answer.json()["error"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ";;;"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json; charset=utf-7"},
        {},
    ],
)
def test_other_kinds_of_content_are_no_error_of_the_service(
    headers: dict[str, str], path: str, service: LocalService
) -> None:
    body = json.dumps(BODIES[path]).encode()
    if "Content-Encoding" in headers:
        body = gzip.compress(bytes(10_000_000))
    post(service, path, body, headers | {"X-Request-ID": "request-1"})


# Every field of another type --------------------------------------------------------------------

VALUES: list[object] = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        "",
        "x",
        "\ud800",
        "\0",
        "9" * 4000,
        [],
        {},
        [[]],
        [None],
        {"": None},
    ),
    *(float("nan"), float("inf"), -float("inf"), 10**4000, {"\ud800": {"\udfff": "\ud800\ud800"}}),
]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        pytest.param(path, place, id=f"{path} {'.'.join(map(str, place))}")
        for path, body in BODIES.items()
        for place in places(body)
    ],
)
def test_a_field_of_another_type_is_no_error_of_the_service(
    path: str, place: tuple[str | int, ...], service: LocalService
) -> None:
    for value in VALUES:
        body = json.dumps(with_value(BODIES[path], place, value))
        # 1e999 is how JSON, which has no word for it, writes infinity.
        for text in {body, body.replace("Infinity", "1e999")}:
            post(service, path, text.encode())


@pytest.mark.parametrize("path", BODIES)
def test_of_a_name_that_stands_twice_the_last_one_counts(path: str, service: LocalService) -> None:
    body = json.dumps(BODIES[path])
    twice = "{" + ", ".join(f'"{name}": null' for name in BODIES[path]) + ", " + body[1:]
    plain, doubled = (post(service, path, text.encode()) for text in (body, twice))
    assert doubled.status_code == plain.status_code
    assert doubled.status_code < 300


def test_half_a_character_does_not_affect_the_other_tasks(service: LocalService) -> None:
    labels = '<RectangleLabels name="l" toName="i" value="$labels"/>'
    config = f'<View><Image name="i" value="$image"/>{labels}</View>'
    inline = "data:image/png;base64," + base64.b64encode(png((8, 8))).decode()
    data = {"image": inline, "labels": [{"value": "cat \ud83d", "\ud83d": "\ud83d"}]}
    body = {"tasks": [{"data": data}, {"data": data | {"image": "s3://b/\ud83d"}}]}
    answer = post(service, "/predict", json.dumps(body | {"label_config": config}).encode())
    whole, broken = answer.json()["results"]
    assert whole["result"][0]["value"]["rectanglelabels"] == ["cat ?"]
    assert broken["error_type"] == "ImageFetchError"


# Out of proportion ------------------------------------------------------------------------------

MANY = 120_000


def predict_with(data: dict[str, object], config: str = CONFIG, **more: object) -> dict[str, Any]:
    return {"tasks": [{"id": 1, "data": data}], "label_config": config, **more}


def view(*tags: str) -> str:
    return f'<View><Image name="image" value="$image"/>{"".join(tags)}</View>'


def rectangles(inner: str = '<Label value="cat"/>', **attributes: str) -> str:
    named = {"name": "label", "toName": "image"} | attributes
    written = " ".join(f'{name}="{value}"' for name, value in named.items())
    return f"<RectangleLabels {written}>{inner}</RectangleLabels>"


def labels(count: int, **attributes: str) -> str:
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return "".join(f'<Label value="{n}"{more}/>' for n in range(count))


def typed(text: object) -> dict[str, Any]:
    return {"params": {"context": {"result": [TYPED | {"value": {"text": text}}]}}}


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
NESTED = '<Repeater on="$l">' * 5 + rectangles(name="l{{idx}}") + "</Repeater>" * 5

# Labeling configs: each goes to /setup, /predict and /webhook.
CONFIGS: dict[str, str] = {
    "a billion laughs": f'<!DOCTYPE v [<!ENTITY e0 "ha">{ENTITIES}]><View>&e9;</View>',
    "quadratic entities": f'<!DOCTYPE v [<!ENTITY a "{"a" * 50_000}">]>'
    f"<View>{'&a;' * 50_000}</View>",
    "a file": '<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/passwd">]><View>&a;</View>',
    "an address": '<!DOCTYPE v [<!ENTITY a SYSTEM "http://127.0.0.1:1/">]><View>&a;</View>',
    "parameter entities": '<!DOCTYPE v [<!ENTITY % a SYSTEM "http://127.0.0.1:1/">%a;]><View/>',
    "a document type": '<!DOCTYPE v SYSTEM "http://127.0.0.1:1/a.dtd"><View/>',
    "an unknown entity": view("&nbsp;", rectangles()),
    "an include": view('<xi:include href="file:///etc/passwd"/>'),
    "a style sheet": '<?xml-stylesheet href="file:///etc/passwd"?>' + view(),
    "another encoding": '<?xml version="1.0" encoding="utf-7"?>' + view(),
    "a zero": view("\0"),
    "half a tag": "<View><Image",
    "a hundred thousand tags inside each other": "<a>" * 100_000 + "</a>" * 100_000,
    "a hundred and two of them": "<View>" * 102 + "</View>" * 102,
    "two hundred thousand tags": view("<a/>" * MANY),
    "fifty thousand attributes": "<View " + " ".join(f'a{n}=""' for n in range(50_000)) + "/>",
    "one attribute twice": '<View a="" a=""/>',
    "two million characters": view(" " * 2_000_000),
    "forty thousand labels": view(rectangles(labels(40_000))),
    "ten thousand words of one label": view(rectangles(labels(1, predicted_values="a," * 10_001))),
    "controls inside each other": view(
        '<RectangleLabels name="l" toName="image">' * 90 + labels(900) + "</RectangleLabels>" * 90
    ),
    "a control of fifty thousand pictures": view(
        rectangles("<b/>" * 40_000, toName=",".join(["image"] * 50_000))
    ),
    "a control of unknown pictures": view(rectangles(toName="a," * 50_000)),
    "a name of half a million characters": view(rectangles(name="a" * 500_000)),
    "a label of half a million characters": view(rectangles(f'<Label value="{"a" * 500_000}"/>')),
    "a threshold of half a million digits": view(rectangles(model_score_threshold="9" * 500_000)),
    "labels full of dots": view(
        rectangles("".join(f'<Label value="{"a." * 400}{n}"/>' for n in range(900)))
    ),
    "repeated repeated repeats": view(NESTED),
    "repeats of what grows": view(
        '<Repeater on="$l" indexFlag="a">',
        f'{rectangles(name="a" * 500)}<b c="{"a" * 50_000}"/></Repeater>',
    ),
    "an index of 5000 digits": '<View><Image name="image" value="$l['
    + "9" * 5000
    + ']"/>'
    + rectangles()
    + "</View>",
    "a value a hundred thousand times": f'<View><Image name="image" value="{"$image" * 100_000}"/>'
    + rectangles()
    + "</View>",
}


# A part of the message, which shows the defence that refused it where several could.
SAID_OF_CONFIGS = {
    **dict.fromkeys(
        (
            *("a billion laughs", "quadratic entities", "a file", "an address"),
            *("parameter entities", "a document type"),
        ),
        "declares a document type or entities",
    ),
    "a hundred and two of them": "nested deeper than 100 tags",
    "two hundred thousand tags": "more than 50000 tags",
    "two million characters": "longer than 1000000 characters",
    "forty thousand labels": "more than 1000 labels",
    "ten thousand words of one label": "10 times as many predicted_values",
    "a name of half a million characters": "a name longer than 1000 characters",
    "a label of half a million characters": "a name longer than 1000 characters",
    "repeated repeated repeats": "Shorten the lists in the task",
    "repeats of what grows": "Shorten the lists in the task",
    "a value a hundred thousand times": "Use fewer variables in it",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_labeling_configs_cost_what_a_long_one_does(
    name: str, service: LocalService
) -> None:
    config = CONFIGS[name]
    data: dict[str, object] = {"image": PICTURE, "l": [0] * 1000}
    setup = post_large(service, "/setup", SETUP | {"schema": config})
    body = predict_with(data, config) | typed(["cat"])
    [entry] = post_large(service, "/predict", body).json()["results"]
    assert setup.status_code == 422 or "result" in entry or "error" in entry
    assert SAID_OF_CONFIGS.get(name, "") in entry.get("error", "")
    project = WEBHOOK["project"] | {"label_config": config}
    event = WEBHOOK | {"project": project, "task": {"data": data}}
    post_large(service, "/webhook", event)


LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "tasks that are none": ("/predict", {"tasks": [0] * MANY, "label_config": CONFIG}),
    "tasks of nothing": ("/predict", {"tasks": [{}] * MANY, "label_config": CONFIG}),
    "one task too many": (
        "/predict",
        {"tasks": [{"data": {}}] * 5001, "label_config": CONFIG},
    ),
    "context of no entries": (
        "/predict",
        predict_with({}, params={"context": {"result": [0] * MANY}}),
    ),
    "context of empty entries": (
        "/predict",
        predict_with({}, params={"context": {"result": [{}] * MANY}}),
    ),
    "drafts that are none": (
        "/predict",
        {"tasks": [{"data": {}, "drafts": [0] * MANY}], "label_config": CONFIG},
    ),
    "drafts of nothing": (
        "/predict",
        {"tasks": [{"data": {}, "drafts": [{}] * MANY}], "label_config": CONFIG},
    ),
    "a draft of no entries": (
        "/predict",
        {"tasks": [{"data": {}, "drafts": [{"result": [0] * MANY}]}], "label_config": CONFIG},
    ),
    "webhook of no entries": ("/webhook", WEBHOOK | {"annotation": {"result": [0] * MANY}}),
    "webhook of empty entries": ("/webhook", WEBHOOK | {"annotation": {"result": [{}] * MANY}}),
    "webhook of typed lines": (
        "/webhook",
        with_value(WEBHOOK, ("annotation", "result", 0, "value", "text"), ["a"] * MANY),
    ),
    "annotations to train with": ("/train", {"annotations": [0] * MANY}),
    "a project of a million characters": ("/versions", {"project": "1" * 1_000_000}),
    "a prompt of a million characters": ("/predict", predict_with({}, **typed(["a." * 500_000]))),
    "a prompt of two thousand words": ("/predict", predict_with({}, **typed(["a." * 1999]))),
    "a prompt of control characters": (
        "/predict",
        predict_with({}, **typed(["\0\x1b[2J\u202e" * 500])),
    ),
    "a prompt of lines": ("/predict", predict_with({}, **typed(["a"] * MANY))),
    "a threshold of a million characters": (
        "/predict",
        predict_with(
            {},
            params={
                "context": {
                    "result": [
                        {
                            "type": "number",
                            "from_name": "box_threshold",
                            "value": {"number": ["9" * 1_000_000]},
                        }
                    ]
                }
            },
        ),
    ),
    "a task of many pictures": (
        "/predict",
        predict_with(
            {"images": ["/a"] * MANY},
            '<View><Image name="image" valueList="$images"/>' + rectangles() + "</View>",
        ),
    ),
    "tasks of many pictures": (
        "/predict",
        {
            "tasks": [{"data": {"images": ["/a"] * 1000}}] * 22,
            "label_config": '<View><Image name="image" valueList="$images"/>'
            + rectangles()
            + "</View>",
        },
    ),
    "labels that a task brings": (
        "/predict",
        predict_with({"l": [{"value": "a"}] * 50_000}, view(rectangles("", value="$l"))),
    ),
    "labels that a task brings for many controls": (
        "/predict",
        predict_with(
            {"l": [{"value": "a"}] * 10_000},
            view(*(rectangles("", value="$l", name=str(n)) for n in range(1000))),
        ),
    ),
    "a wide task": ("/predict", predict_with({str(n): n for n in range(100_000)})),
    "a wide task that is looked through often": (
        "/predict",
        predict_with(
            {str(n): n for n in range(50_000)},
            '<View><Image name="image" value="'
            + "$a.b" * 50_000
            + '"/>'
            + rectangles()
            + "</View>",
        ),
    ),
    "a value of a thousand characters, very often": (
        "/predict",
        predict_with(
            {"image": "a" * 1000},
            f'<View><Image name="image" value="{"$image-" * 100_000}"/>{rectangles()}</View>',
        ),
    ),
    "an inline picture of a million characters": (
        "/predict",
        predict_with({"image": "data:image/png;base64," + "A" * 1_000_000}),
    ),
    "an address of a million characters": (
        "/predict",
        predict_with({"image": "http://127.0.0.1/" + "a" * 1_000_000}),
    ),
    "a host of a million characters": (
        "/predict",
        predict_with({"image": f"http://{'a' * 1_000_000}/"}),
    ),
    "a cloud address of a million characters": (
        "/predict",
        predict_with({"image": "s3://b/" + "a" * 1_000_000}),
    ),
    "escapes inside escapes": ("/predict", predict_with({"image": "/data/%" + "25" * 500_000})),
    "a value nested three hundred times": (
        "/predict",
        predict_with({"image": json.loads(deep(300))}),
    ),
    "a key of a million characters": ("/predict", predict_with({"a" * 1_000_000: 1})),
}


SAID_OF_LARGE = {
    **dict.fromkeys(("tasks that are none", "tasks of nothing"), "at most 50000 items"),
    "one task too many": "5000 are allowed",
    "context of empty entries": "at most 100000 items",
    "drafts of nothing": "at most 1000 items",
    "webhook of empty entries": "at most 100000 items",
    "a prompt of a million characters": "longer than 4000 characters",
    "a task of many pictures": "more than 1000 pictures",
    "tasks of many pictures": "more than 20000 pictures",
    "labels that a task brings": "more than 1000 labels",
    "labels that a task brings for many controls": "Shorten the lists in the task",
    "a value of a thousand characters, very often": "Use fewer variables in it",
    "an address of a million characters": "not a plain http or https address",
    "a host of a million characters": "not a plain http or https address",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_bodies_cost_what_their_size_does(name: str, service: LocalService) -> None:
    assert SAID_OF_LARGE.get(name, "") in post_large(service, *LARGE[name]).text


def test_there_are_enough_of_them() -> None:
    fields = sum(1 for body in BODIES.values() for _ in places(body)) * len(VALUES)
    assert len(NO_JSON) * len(BODIES) + fields + 3 * len(CONFIGS) + len(LARGE) > 500


def test_what_the_service_itself_gets_wrong_is_said_without_a_traceback(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service.service, "setup", broken)
    answer = service.ask("POST", "/setup", b"{}", JSON)
    assert answer.status_code == 500
    assert answer.json()["error_type"] == "PrelabelError"
    assert answer.json()["request_id"] == "request-1"
    assert "secret" not in answer.text
