"""The documentation's site, opened as files in a browser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.browser import ARGS, CHROMIUM
from tests.support.paths import ROOT, repository_files
from tests.support.picture_server import picture_server

SITE = ROOT / "site"
PICTURED = ("index", "user/gallery", "user/troubleshooting", "operator/performance")


@pytest.fixture(scope="session")
def site() -> Path:
    """The built site; it is built again only if a source is newer."""
    sources = [ROOT / path for path in repository_files("docs/*", "mkdocs.yml")]
    index = SITE / "index.html"
    if not index.exists() or index.stat().st_mtime < max(s.stat().st_mtime for s in sources):
        subprocess.run(["make", "docs-site"], cwd=ROOT, check=True)
    return SITE


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "There is no Chromium: apt-get install chromium."
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        started.close()


def opened(browser: Browser, width_px: int, scheme: str) -> tuple[Page, list[str]]:
    """A page of that width, and the list of its faults: other hosts, and errors of scripts."""
    context = browser.new_context(
        viewport={"width": width_px, "height": 1000},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else faults.append(request.url)
        ),
    )
    return page, faults


@pytest.mark.parametrize(
    ("width_px", "scheme", "names"),
    [(1400, "light", PICTURED), (400, "dark", ("index", "user/*", "operator/*", "developer/*"))],
)
def test_pages_fit_the_width_and_reach_no_other_host(
    width_px: int,
    scheme: str,
    names: tuple[str, ...],
    site: Path,
    browser: Browser,
    artifacts: Path,
) -> None:
    page, faults = opened(browser, width_px, scheme)
    paths = [path for name in names for path in sorted(site.glob(f"{name}.html"))]
    assert len(paths) >= len(names)
    for path in paths:
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width_px, path
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
        assert page.evaluate(broken) == 0, path
        name = path.relative_to(site).with_suffix("").as_posix()
        if name in PICTURED:
            target = artifacts / f"docs-{name.replace('/', '-')}-{width_px}-{scheme}.png"
            page.screenshot(path=target, full_page=True)
    assert faults == []


@pytest.mark.parametrize("served", [False, True], ids=["files", "server"])
def test_the_search_works_in_files_and_on_a_server(
    served: bool, site: Path, browser: Browser
) -> None:
    with picture_server(site) as url:
        page, faults = opened(browser, 1400, "light")
        page.goto(f"{url}/index.html" if served else (site / "index.html").as_uri())
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("why are there no boxes")
        found = ".md-search-result__item:nth-child(-n+3) a[href*='user/troubleshooting.html']"
        page.locator(found).first.wait_for()
        assert [fault for fault in faults if not fault.startswith(url)] == []
        page.close()
