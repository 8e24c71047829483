"""The playground on the running service: its boxes are those of POST /predict."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from prelabel.playground.examples import FILES
from tests.support.demo_cases import load_cases
from tests.support.playground_rule import Sliders, chosen_by_page
from tests.support.scenes import data_uri, encoded, scene
from tests.support.service_client import PASSWORD, USER, Service

CASES = {case.image.name: case for case in load_cases() if case.image.name in FILES}
THRESHOLDS = [(0.3, 0.25), (0.1, 0.05), (0.02, 0.0), (0.5, 0.5)]


def candidates(service: Service, **body: Any) -> dict[str, Any]:
    answer = service.post("/playground/candidates", body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def export(service: Service, **body: Any) -> str:
    answer = service.post("/playground/export", body)
    assert answer.status_code == 200, answer.text
    return answer.text


def predicted(service: Service, picture: str, **request: Any) -> list[tuple[Any, ...]]:
    """Label, score and corners in pixels of each box of the exported predict request."""
    text = export(service, format="predict", **request)
    body = json.loads(text.replace('"IMAGE"', json.dumps(picture)))
    [entry] = service.post("/predict", body).json()["results"]
    assert "error" not in entry, entry
    return [
        (
            *region["value"].get("rectanglelabels", [None]),
            region["score"],
            round(region["value"]["x"] * region["original_width"] / 100, 1),
            round(region["value"]["y"] * region["original_height"] / 100, 1),
        )
        for region in entry["result"]
    ]


def shown(answer: dict[str, Any], sliders: Sliders) -> list[tuple[Any, ...]]:
    """Label, score and corners of each box that the page chooses."""
    return [
        (
            answer["phrases"][answer["phrase_index"][row]]["label"],
            round(answer["scores"][row], 4),
            round(answer["boxes_xyxy"][row][0], 1),
            round(answer["boxes_xyxy"][row][1], 1),
        )
        for row in chosen_by_page(answer, sliders)
    ]


def assert_same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    assert [box[0] for box in found] == [box[0] for box in expected]
    for box, other in zip(found, expected, strict=True):
        # Percent and scores have four decimals in Label Studio's JSON.
        assert box[1:] == pytest.approx(other[1:], abs=0.11)


@pytest.mark.parametrize("file", FILES)
def test_the_page_shows_the_boxes_of_a_predict_request(service: Service, file: str) -> None:
    case = CASES[file]
    example = f"example:{case.image.stem}"
    answer = candidates(service, image=example, prompt=case.prompt)
    assert answer["labels"] == list(case.labels)
    assert answer["floor"] == 0.02
    assert len(json.dumps(answer)) < 100_000
    kind = "jpeg" if file.endswith("jpg") else "png"
    picture = data_uri(case.image.read_bytes(), f"image/{kind}")
    for box, text in THRESHOLDS:
        thresholds = {"box_threshold": box, "text_threshold": text}
        expected = predicted(service, picture, prompt=case.prompt, thresholds=thresholds)
        assert_same(shown(answer, Sliders(box, text)), expected)
    assert len(shown(answer, Sliders(0.3, 0.25))) >= 2


def test_labels_aliases_and_negatives_are_those_of_the_exported_config(service: Service) -> None:
    asked = {"prompt": "Flower: sunflower . a horse . -frog . zebra"}
    answer = candidates(service, image="example:garden", **asked)
    assert answer["labels"] == ["Flower", "horse", "zebra"]
    picture = data_uri(CASES["garden.jpg"].image.read_bytes(), "image/jpeg")
    found = shown(answer, Sliders(0.3, 0.25))
    assert {box[0] for box in found} == {"Flower", "horse"}
    assert_same(found, predicted(service, picture, **asked))
    labels = {"labels": list(CASES["garden.jpg"].labels)}
    found = shown(candidates(service, image="example:garden", **labels), Sliders(0.3, 0.25))
    assert {box[0] for box in found} >= {"horse", "frog"}
    assert_same(found, predicted(service, picture, **labels))


def test_a_tiled_picture_behind_a_prefix_and_a_password(guarded: Service) -> None:
    large = scene((640, 480)).resize((1600, 1200), Image.Resampling.NEAREST)
    picture = data_uri(encoded(large, "PNG"))
    prompt = "red circle . blue square"
    answer = candidates(guarded, image=picture, prompt=prompt)
    assert len(set(answer["view_index"])) > 1
    for box, text in THRESHOLDS[:3]:
        thresholds = {"box_threshold": box, "text_threshold": text}
        expected = predicted(guarded, picture, prompt=prompt, thresholds=thresholds)
        found = shown(answer, Sliders(box, text))
        assert len(expected) > 0
        assert_same(found, expected)
    root = guarded.get("", headers={"accept": "text/html"}, allow_redirects=False)
    assert root.status_code == 307
    page = guarded.get("", headers={"accept": "text/html"})
    assert page.url == f"{guarded.url}/playground"
    assert page.headers["content-type"].startswith("text/html")
    too_large = data_uri(bytes(1_000_000))
    refused = guarded.post("/playground/candidates", {"image": too_large, "prompt": "cat"})
    assert refused.status_code == 413
    with requests.Session() as unknown:
        unknown.trust_env = False
        assert unknown.get(f"{guarded.url}/playground", timeout=30).status_code == 401


def test_outlines_are_those_of_a_predict_request(service: Service) -> None:
    asked = {"prompt": "horse . frog"}
    answer = candidates(service, image="example:garden", **asked)
    rows = chosen_by_page(answer, Sliders(0.3, 0.25))
    boxes = [answer["boxes_xyxy"][row] for row in rows]
    request = {"image": "example:garden", "image_wh": answer["image_wh"], "boxes_xyxy": boxes}
    masks = service.post("/playground/masks", request).json()
    picture = data_uri(CASES["garden.jpg"].image.read_bytes(), "image/jpeg")
    text = export(service, format="predict", masks=True, **asked)
    body = json.loads(text.replace('"IMAGE"', json.dumps(picture)))
    [entry] = service.post("/predict", body).json()["results"]
    drawn = [region for region in entry["result"] if region["type"] == "polygonlabels"]
    rings = [ring for rings in masks["polygons"] for ring in rings]
    assert [len(ring) for ring in rings] == [len(each["value"]["points"]) for each in drawn]
    assert rings
    for ring, each in zip(rings, drawn, strict=True):
        for (x, y), (x_pct, y_pct) in zip(ring, each["value"]["points"], strict=True):
            assert (x, y) == pytest.approx((x_pct * 6.4, y_pct * 4.8), abs=0.02)
    qualities = {each["meta"]["mask_quality"] for each in drawn}
    assert qualities == {quality for quality in masks["qualities"] if quality in qualities}


@pytest.mark.parametrize("from_service", [True, False])
def test_the_copied_command_runs(
    service: Service, guarded: Service, tmp_path: Path, from_service: bool
) -> None:
    name = "it's a garden.jpg"
    (tmp_path / name).write_bytes(CASES["garden.jpg"].image.read_bytes())
    asked = {"prompt": "frog . horse", "thresholds": {"box_threshold": 0.2}}
    target = guarded if from_service else service
    command = export(
        target,
        format="curl",
        image_name=name,
        service_url=f"{target.url}/",
        example="garden" if from_service else None,
        **asked,
    )
    variables = {"PATH": "/usr/bin:/bin", "BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=variables, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [entry] = json.loads(done.stdout)["results"]
    answer = candidates(service, image="example:garden", prompt=asked["prompt"])
    found = shown(answer, Sliders(0.2, 0.25))
    assert [region["value"]["rectanglelabels"][0] for region in entry["result"]] == [
        box[0] for box in found
    ]
