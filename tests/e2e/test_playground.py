"""The playground in a browser: its boxes are those of the API, and its sliders need no request."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from label_studio_sdk.label_interface.interface import LabelInterface
from playwright.sync_api import Browser, Route

from prelabel.cli.palette import strokes
from tests.support.demo_cases import Case, Demo, boxes_of, complaints
from tests.support.paths import ROOT
from tests.support.playground_cases import ManyBoxes, generated_cases
from tests.support.playground_page import Playground, chromium, opened

PAGE = ROOT / "prelabel/playground/page"
MOST_BYTES = 150_000
CURL = shutil.which("curl")

# The sizes and themes of the screenshots.
PHONE = {"viewport": {"width": 400, "height": 860}, "has_touch": True, "is_mobile": True}
LOOKS: dict[str, dict[str, Any]] = {
    "wide-light": {"color_scheme": "light"},
    "wide-dark": {"color_scheme": "dark"},
    "phone-light": {"color_scheme": "light", **PHONE},
    "phone-dark": {"color_scheme": "dark", **PHONE},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def user(browser: Browser, service: str) -> Iterator[Playground]:
    with opened(browser, service) as page:
        yield page


@pytest.fixture(scope="module")
def screenshots(artifacts: Path) -> Path:
    folder = artifacts / "playground"
    folder.mkdir()
    return folder


@pytest.fixture
def case(demo: Demo) -> Case:
    return demo.cases[0]


def test_a_dropped_picture_shows_the_boxes_of_predict(
    user: Playground, service: str, case: Case
) -> None:
    user.drop(case.image)
    user.ask(case.prompt)
    config = user.copied("config")
    LabelInterface(config).validate()  # type: ignore[no-untyped-call]
    [entry] = predicted(service, {"tasks": [task_of(case.image)], "label_config": config})
    boxes = boxes_of(entry["result"])
    assert len(boxes) > 3
    assert user.count == len(boxes)
    assert sorted(user.labels) == sorted(label for label, *_ in boxes)
    assert complaints(config, entry) == []


def test_a_slider_acts_in_the_next_frame_without_a_request(
    user: Playground, service: str, case: Case, tmp_path: Path
) -> None:
    user.drop(case.image)
    user.ask(case.prompt)
    before, requested = user.count, len(user.requested)
    slid = user.slide("box", 0.55)
    assert int(slid["count"].split()[0]) < before
    assert user.page.input_value("#box-number") == "0.55"
    assert user.requested[requested:] == []
    # The boxes are those that the service answers to these thresholds.
    shutil.copy(case.image, tmp_path)
    copied = boxes_of(answer_of(user.copied("curl"), tmp_path)["result"])
    [task] = user.downloaded("label_studio")
    assert boxes_of(task["predictions"][0]["result"]) == copied
    assert user.count == len(copied) > 0


def test_the_curl_command_of_an_example_gives_its_boxes(user: Playground, tmp_path: Path) -> None:
    user.choose_example("street")
    user.slide("text", 0.1)
    answer = answer_of(user.copied("curl"), tmp_path)
    assert len(boxes_of(answer["result"])) == user.count > 0


def test_the_downloads_have_the_boxes_that_are_shown(user: Playground) -> None:
    user.choose_example("garden")
    config = user.copied("config")
    [task] = user.downloaded("label_studio")
    [prediction] = task["predictions"]
    assert complaints(config, prediction) == []
    assert len(boxes_of(prediction["result"])) == user.count
    coco = user.downloaded("coco")
    assert len(coco["annotations"]) == user.count
    with user.page.expect_download() as download:
        user.page.click("[data-take=drawing]")
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_thousand_candidates_are_fluid(
    user: Playground, artifacts: Path, screenshots: Path
) -> None:
    many = ManyBoxes(1_000)
    user.page.route("**/playground/candidates", lambda route: route.fulfill(json=many.answer()))
    user.choose_example("garden")
    requested = len(user.requested)
    user.slide("text", 0)
    moves = [user.slide("box", value / 100) for value in range(5, 45, 4)]
    counts = [move["count"] for move in moves]
    assert len(set(counts)) > 5, counts
    assert user.requested[requested:] == []
    milliseconds = [round(move["ms"], 1) for move in moves]
    (artifacts / "playground-slider.json").write_text(json.dumps({"milliseconds": milliseconds}))
    user.page.screenshot(path=screenshots / "thousand.png")


def test_masks_are_drawn_when_they_are_switched_on(user: Playground, screenshots: Path) -> None:
    user.choose_example("garden")
    assert not any(address.endswith("/masks") for address in user.requested)
    with user.page.expect_response("**/playground/masks") as answered:
        user.page.locator("#masks").check(force=True)
    assert all(rings for rings in answered.value.json()["polygons"])
    user.page.wait_for_selector("#progress", state="hidden")
    user.page.screenshot(path=screenshots / "masks.png")
    # Masks are kept: the slider asks for those of new boxes only.
    requested = len(user.requested)
    user.slide("box", 0.5)
    user.page.wait_for_timeout(500)
    assert user.requested[requested:] == []


def test_an_older_answer_never_takes_the_place_of_a_newer_one(user: Playground, demo: Demo) -> None:
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    user.drop(demo.cases[0].image)
    user.page.route("**/playground/candidates", hold_first)
    user.page.fill("#prompt", "frog")
    user.page.press("#prompt", "Enter")
    user.page.wait_for_selector("#progress", state="visible")
    user.ask("horse")
    held[0].continue_()
    user.page.wait_for_timeout(500)
    assert set(user.labels) == {"horse"}


def test_a_copied_text_with_a_picture_is_pasted_as_text(user: Playground) -> None:
    user.page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.setData("text/plain", "cat");
          transfer.items.add(new File(["x"], "cat.png", { type: "image/png" }));
          const paste = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
          document.getElementById("prompt").dispatchEvent(paste);
        }"""
    )
    user.page.wait_for_timeout(300)
    assert user.page.inner_text("#title") == ""


def test_a_detection_can_be_cancelled(user: Playground, case: Case) -> None:
    user.page.route("**/playground/candidates", lambda _: None)
    user.drop(case.image)
    user.page.fill("#prompt", case.prompt)
    user.page.press("#prompt", "Enter")
    user.page.get_by_text("Detecting").wait_for()
    user.page.click("#cancel")
    user.page.wait_for_selector("#progress", state="hidden")
    assert user.page.inner_text("#count") == "Boxes"


def test_errors_are_the_sentences_of_the_api(
    user: Playground, service: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    user.drop(broken)
    user.page.fill("#prompt", "cat")
    user.page.press("#prompt", "Enter")
    user.page.wait_for_selector("#notice")
    body = {"image": data_url(broken), "prompt": "cat", "labels": None}
    answer = requests.post(f"{service}/playground/candidates", json=body, timeout=60)
    assert answer.status_code == 422
    assert user.page.inner_text("#notice-text") == answer.json()["error"]


def test_a_word_that_the_model_does_not_know_is_explained(user: Playground, case: Case) -> None:
    user.drop(case.image)
    user.page.fill("#prompt", "Pferd")
    user.page.press("#prompt", "Enter")
    user.page.wait_for_selector("#notice")
    assert "Is it one of its words?" in user.page.inner_text("#notice-text")


def test_a_service_that_is_out_of_reach_is_named(user: Playground, service: str) -> None:
    user.page.route("**/playground/candidates", lambda route: route.abort())
    user.page.click("[data-example=garden]")
    user.page.wait_for_selector("#notice")
    assert f"The service at {service} does not answer." in user.page.inner_text("#notice-text")
    user.page.unroute("**/playground/candidates")
    user.page.click("#notice-action")
    user.wait_for_boxes()
    assert user.count > 0


def test_a_link_shows_the_same(user: Playground, browser: Browser, service: str) -> None:
    user.choose_example("garden")
    user.ask("frog . Plant: palm tree, sunflower . -snail")
    user.slide("box", 0.41)
    fragment = user.copied("link").removeprefix(f"{service}/playground")
    assert fragment.startswith("#")
    with opened(browser, service, fragment) as other:
        other.wait_for_boxes()
        assert other.page.input_value("#prompt") == "frog . Plant: palm tree, sunflower . -snail"
        assert other.page.input_value("#box-number") == "0.41"
        assert other.labels == user.labels
        assert "Plant" in other.labels


def test_a_list_of_labels_is_searched(user: Playground, case: Case) -> None:
    user.drop(case.image)
    user.page.get_by_text("Labels", exact=True).click()
    user.ask("palm_tree, frog")
    assert set(user.labels) == {"palm_tree", "frog"}


def test_the_keyboard_alone_is_enough(user: Playground) -> None:
    page = user.page
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("Escape")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.example") == "garden":
            break
    page.keyboard.press("Enter")
    user.wait_for_boxes()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    assert page.locator("#facts").is_visible()
    assert page.locator("tr[aria-selected=true]").count() == 1
    page.focus("#table tbody button[tabindex='0']")
    page.keyboard.press("ArrowDown")
    assert page.locator("tr").nth(2).get_attribute("aria-selected") == "true"
    page.focus("#box")
    before = user.count
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert user.count < before
    moved = page.input_value("#box-number")
    page.focus(".skip")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert page.input_value("#box-number") == moved
    page.focus("#stage")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "prompt"


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_fits_and_is_accessible(
    look: str, browser: Browser, service: str, screenshots: Path
) -> None:
    with opened(browser, service, **LOOKS[look]) as user:
        page = user.page
        page.screenshot(path=screenshots / f"{look}-empty.png")
        user.choose_example("garden")
        page.locator("#table tbody button").first.click()
        page.wait_for_timeout(300)
        page.screenshot(path=screenshots / f"{look}.png")
        assert user.serious_findings() == []
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]


@pytest.mark.parametrize("look", ["phone-light", "wide-dark"])
def test_the_empty_page_and_its_help_are_accessible(
    look: str, browser: Browser, service: str, screenshots: Path
) -> None:
    with opened(browser, service, **LOOKS[look]) as user:
        user.page.click("#grammar-toggle")
        user.page.click("#knows summary")
        assert user.serious_findings() == []
        user.page.click("#help-open")
        user.page.screenshot(path=screenshots / f"{look}-help.png")
        assert user.serious_findings() == []


def test_the_page_of_the_api_shows_its_requests_without_another_host(
    user: Playground, service: str, screenshots: Path
) -> None:
    user.page.click("text=API")
    user.page.locator("#operations-Predictions-predict_predict_post").wait_for()
    assert any("/docs-files/" in address for address in user.requested)
    assert [each for each in user.requested if not each.startswith(f"{service}/")] == []
    user.page.screenshot(path=screenshots / "api.png")


def test_the_page_is_small(user: Playground) -> None:
    assets = {address for address in user.requested if "/examples/" not in address}
    loaded = sum(len(requests.get(address, timeout=60).content) for address in assets)
    assert loaded < MOST_BYTES
    assert sum(path.stat().st_size for path in PAGE.iterdir() if path.is_file()) < MOST_BYTES


def test_the_page_chooses_boxes_as_the_library_does(user: Playground, service: str) -> None:
    cases = generated_cases(150)
    chosen = user.page.evaluate(
        """async ([address, cases]) => {
          const { pack, select } = await import(address);
          return JSON.parse(cases).map(({ answer, thresholds, limits }) =>
            select(pack(answer), thresholds, limits).rows);
        }""",
        [f"{service}/playground/selection.js", json.dumps([case.to_page() for case in cases])],
    )
    assert sum(map(len, chosen)) > 1_500
    for case, rows in zip(cases, chosen, strict=True):
        boxes = [case.answer["boxes_xyxy"][row] for row in rows]
        assert boxes == case.expected


def test_labels_have_the_strokes_of_the_drawings(user: Playground, service: str) -> None:
    shown = user.page.evaluate(
        """async (address) => {
          const { styleOf } = await import(address);
          return Array.from({ length: 40 }, (_, index) => styleOf(index));
        }""",
        f"{service}/playground/palette.js",
    )
    drawn = strokes(f"label {number}" for number in range(40)).values()
    assert shown == [
        {
            "colour": "#{:02x}{:02x}{:02x}".format(*stroke.colour),
            "ink": "#{:02x}{:02x}{:02x}".format(*stroke.contrast),
            "dash": list(stroke.pattern),
        }
        for stroke in drawn
    ]


def task_of(picture: Path) -> dict[str, Any]:
    return {"id": 1, "data": {"image": data_url(picture)}}


def data_url(picture: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def predicted(service: str, body: dict[str, Any]) -> list[Any]:
    answer = requests.post(f"{service}/predict", json=body, timeout=120)
    answer.raise_for_status()
    results: list[Any] = answer.json()["results"]
    return results


def answer_of(command: str, folder: Path) -> dict[str, Any]:
    """Run a copied command in a folder. Return the prediction that it prints."""
    assert CURL, "There is no curl: apt-get install curl."
    ended = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    [prediction] = json.loads(ended.stdout)["results"]
    return dict(prediction)
