"""An annotator: Chromium on Label Studio's page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, Response, Route, sync_playwright

from tests.support.label_studio import PASSWORD, USER

CHROMIUM = shutil.which("chromium")  # the system's: Playwright's own is not installed
ARGS = [
    "--no-sandbox",  # the tests may run as root in a container
    "--disable-dev-shm-usage",  # which is small there
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AUTOSAVE_MS = 6_000  # the page saves a draft five seconds after the last one
# The page's own switch "Show labels inside the regions", set before it looks.
SHOW_LABELS = "localStorage.setItem('labelStudio:settings', JSON.stringify({showLabels: true}))"


class Annotator:
    """Uses the page as an annotator does, and takes a screenshot after each step."""

    def __init__(self, page: Page, url: str, screenshots: Path) -> None:
        self.page = page
        self._url = url
        self._screenshots = screenshots
        self._taken = 0

    def log_in(self, user: str = USER, password: str = PASSWORD) -> None:
        self.page.goto(f"{self._url}/user/login/")
        self.page.fill("input[name=email]", user)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/login" not in url, wait_until="commit")
        self.take_screenshot("logged-in")

    def open_task(self, project: int, task: int) -> None:
        self.page.goto(f"{self._url}/projects/{project}/data?task={task}")
        self.page.wait_for_selector(".lsf-main-content canvas")
        self.take_screenshot("task")

    def switch_on_auto_annotation(self) -> None:
        self._button("auto-annotation-toggle").check(force=True)
        self.take_screenshot("auto-annotation")

    def type_prompt(self, prompt: str) -> None:
        """Type it and press the button; returns when the suggestions are there."""
        self._add(prompt)
        self._button("accept-suggestions-button").wait_for()
        self.take_screenshot("suggestions")

    def edit_prompt(self, prompt: str) -> list[dict[str, Any]]:
        """Change the typed prompt, once the page has stored the annotation as a draft.

        Returns the regions that the service answers.
        """
        self.page.wait_for_timeout(AUTOSAVE_MS)
        self.page.get_by_test_id("htx-textbox-edit-button").click()
        with self.page.expect_response(_is_answer) as got:
            self.page.get_by_test_id("htx-textbox-input").fill(prompt)
            self.page.get_by_test_id("htx-textbox-save").click()
        self._button("accept-suggestions-button").wait_for()
        self.take_screenshot("edited-prompt")
        return _regions(got.value)

    def type_prompt_in_vain(self, prompt: str) -> None:
        """Type it and press the button; returns when the answer, without boxes, is there."""
        with self.page.expect_response(_is_answer) as got:
            self._add(prompt)
        assert got.value.ok, got.value.status
        self.take_screenshot("no-suggestions")
        assert not self._button("accept-suggestions-button").is_visible()

    def wait_for_predictions(self) -> None:
        """Return once the page shows the regions of a prediction."""
        self.page.wait_for_function(
            "() => window.Htx.annotationStore.selected?.regions.length > 0", timeout=60_000
        )
        self.take_screenshot("predictions")

    def type_number(self, number: float) -> None:
        """Into the page's only number field."""
        self.page.fill("input[type=number]", str(number))
        self.take_screenshot("number")

    def choose_smart_tool(self) -> None:
        """Select the first smart tool: key points, if the labeling config has some."""
        self.page.locator(".lsf-tool_smart").first.click()
        self.take_screenshot("smart-tool")

    def click_smartly(
        self, key: str, at_pct: tuple[float, float], *, inside: bool = True
    ) -> list[dict[str, Any]]:
        """Press the key of a label and click on the picture, with Alt beside the object.

        Returns the regions that the service answers.
        """
        self.page.keyboard.press(key)
        x, y = self._on_page(at_pct)
        with self.page.expect_response(_is_answer) as got:
            if not inside:
                self.page.keyboard.down("Alt")
            self.page.mouse.click(x, y)
            self.page.keyboard.up("Alt")
        self._button("accept-suggestions-button").wait_for()
        self.take_screenshot("click")
        return _regions(got.value)

    def _on_page(self, at_pct: tuple[float, float]) -> tuple[float, float]:
        """Return the point of the page where a point of the picture is shown."""
        canvas = self.page.locator("canvas").first.bounding_box()
        assert canvas
        left, top, width, height = self.page.evaluate(
            "(() => { const image = window.Htx.annotationStore.selected.objects"
            ".find(object => object.type === 'image'); const zoom = image.zoomScale;"
            " return [image.zoomingPositionX, image.zoomingPositionY, image.stageWidth * zoom,"
            " image.stageHeight * zoom] })()"
        )
        return (
            canvas["x"] + left + at_pct[0] / 100 * width,
            canvas["y"] + top + at_pct[1] / 100 * height,
        )

    def _add(self, prompt: str) -> None:
        self.page.fill("textarea[name=prompt]", prompt)
        self.page.get_by_role("button", name="Add", exact=True).click()

    def accept_suggestions(self) -> None:
        self._button("accept-suggestions-button").click()
        self._button("accept-suggestions-button").wait_for(state="detached")
        self.take_screenshot("accepted")

    def regions(self) -> list[dict[str, Any]]:
        """The annotation as the page would submit it."""
        annotation = "window.Htx.annotationStore.selected.serializeAnnotation()"
        regions: list[dict[str, Any]] = self.page.evaluate(annotation)
        return regions

    def label_first_without_label(self, key: str) -> None:
        """Select the first region without a label in the list of regions, and press a key."""
        grey = next(r for r in self.regions() if r["value"].keys() & {"x"} and not _has_label(r))
        # The list shows no name for it, but its score.
        self.page.get_by_text(f"{grey['score']:.2f}", exact=True).first.click()
        self.take_screenshot("selected")
        self.page.keyboard.press(key)
        self.take_screenshot("labelled")

    def submit(self) -> None:
        with self.page.expect_response(
            lambda answer: answer.request.method == "POST" and "/annotations" in answer.url
        ) as answer:
            self._button("submit-button").click()
        assert answer.value.ok, answer.value.status
        self.take_screenshot("submitted")

    def take_screenshot(self, name: str) -> Path:
        """PNG of the page, numbered; the pause lets animations end."""
        self.page.wait_for_timeout(400)
        self._taken += 1
        path = self._screenshots / f"{self._taken:02d}-{name}.png"
        self.page.screenshot(path=path)
        return path

    def _button(self, name: str) -> Locator:
        return self.page.locator(f"[data-testid=bottombar-{name}]")


def _is_answer(response: Response) -> bool:
    """Return True if it is the service's answer to an annotator."""
    return "interactive-annotating" in response.url


def _regions(answer: Response) -> list[dict[str, Any]]:
    assert answer.ok, answer.status
    regions: list[dict[str, Any]] = answer.json()["data"]["result"]
    return regions


def _has_label(region: dict[str, Any]) -> bool:
    return bool(region["value"].get(region["type"]))


@contextmanager
def annotator_at(url: str, screenshots: Path) -> Iterator[Annotator]:
    """A fresh browser that reaches Label Studio and nothing else."""
    assert CHROMIUM, "There is no Chromium: apt-get install chromium."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 900})
            context.add_init_script(SHOW_LABELS)
            foreign = _fence_in(context, url)
            yield Annotator(context.new_page(), url, screenshots)
            assert not foreign, f"The page wanted to reach {foreign}"
        finally:
            browser.close()


def _fence_in(context: BrowserContext, url: str) -> list[str]:
    """Refuse requests to other hosts; return the list of their addresses."""
    foreign: list[str] = []

    def decide(route: Route) -> None:
        if route.request.url.startswith((url, "data:", "blob:")):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    context.route("**", decide)
    return foreign
