"""A user of the playground: Chromium on the service's own page, fenced in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.support.browser import ARGS, CHROMIUM

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
SERIOUS = {"serious", "critical"}

# Chromium has no gesture for files: the page gets the event that a drop makes.
_DROP = """([name, type, encoded]) => {
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const target = document.getElementById("stage");
  for (const kind of ["dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true,
      cancelable: true }));
  }
}"""

# Resolves in the first frame after the slider moved.
_SLIDE = """async ([name, value]) => {
  const slider = document.getElementById(name);
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise(requestAnimationFrame);
  const [measured] = performance.getEntriesByName("prelabel-slider");
  return { count: document.getElementById("count").textContent, ms: measured.duration };
}"""


class Playground:
    """The page as a user sees it.

    Attributes:
        page: The browser's page.
        requested: Addresses that the page requested, but for its icon.
        faults: Errors of scripts, and refusals by the content security policy.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.requested: list[str] = []
        self.faults: list[str] = []
        self._url = url
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on(
            "console",
            lambda message: self.faults.append(message.text) if _is_fault(message.text) else None,
        )

    def open(self, fragment: str = "") -> None:
        self.page.goto(f"{self._url}/playground{fragment}")
        self.page.wait_for_selector("#examples button")

    def drop(self, picture: Path) -> None:
        kind = {".png": "image/png", ".jpg": "image/jpeg"}[picture.suffix]
        encoded = base64.b64encode(picture.read_bytes()).decode()
        self.page.evaluate(_DROP, [picture.name, kind, encoded])
        self.page.get_by_text(picture.name).first.wait_for(state="attached")

    def choose_example(self, name: str) -> None:
        """Click on an example; returns when its boxes are there."""
        self.page.click(f"[data-example={name}]")
        self.wait_for_boxes()

    def ask(self, prompt: str) -> None:
        """Type a prompt and press Enter; returns when the boxes are there."""
        self.page.fill("#prompt", prompt)
        self.page.press("#prompt", "Enter")
        self.wait_for_boxes()

    def wait_for_boxes(self) -> None:
        self.page.wait_for_selector("#progress", state="hidden")
        self.page.wait_for_selector("#table tbody tr")

    @property
    def count(self) -> int:
        """The number of boxes that the page names."""
        return int(self.page.inner_text("#count").split()[0])

    @property
    def labels(self) -> list[str]:
        """Labels of the table's rows, best box first."""
        rows = self.page.locator("#table tbody th")
        return [text.strip() for text in rows.all_inner_texts()]

    def slide(self, name: str, value: float) -> dict[str, Any]:
        """Move a slider. Return the count in the next frame, and the milliseconds it took."""
        moved: dict[str, Any] = self.page.evaluate(_SLIDE, [name, value])
        return moved

    def copied(self, kind: str) -> str:
        """Press one of the buttons that copy, and return the text in the clipboard."""
        self.page.evaluate("navigator.clipboard.writeText('')")
        self.page.click(f"[data-take={kind}]")
        self.page.wait_for_selector("#toast.is-shown")
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text

    def downloaded(self, kind: str) -> Any:
        """Press one of the buttons that download JSON, and return what it means."""
        with self.page.expect_download() as download:
            self.page.click(f"[data-take={kind}]")
        return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))

    def serious_findings(self) -> list[str]:
        """The findings of axe-core that are serious or critical, with their places."""
        self.page.evaluate(AXE)
        report = self.page.evaluate("axe.run()")
        assert len(report["passes"]) > 20  # rules that found something to check
        return [
            f"{finding['id']}: {finding['help']}: {node['target']}"
            for finding in report["violations"]
            if finding["impact"] in SERIOUS
            for node in finding["nodes"]
        ]

    def _note(self, request: Request) -> None:
        # Chromium fetches the icon of its tab when it likes.
        if not request.url.startswith(("data:", "blob:")) and not request.url.endswith("icon.svg"):
            self.requested.append(request.url)


def _is_fault(message: str) -> bool:
    return "Content Security Policy" in message or "Refused to" in message


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, in which each `opened` page is a user of its own."""
    assert CHROMIUM, "There is no Chromium: apt-get install chromium."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, fragment: str = "", **options: Any) -> Iterator[Playground]:
    """The page of a service. Fails if the page has faults or wants another host."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    try:
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        user = Playground(context.new_page(), url)
        user.open(fragment)
        yield user
        assert user.faults == []
        assert [each for each in user.requested if not each.startswith(f"{url}/")] == []
    finally:
        context.close()
