"""Write the screenshots of docs/user/gallery: each labeling config in a real Label Studio.

Starts Label Studio, the service with the demo model, and Chromium. `make gallery` installs what
they need. The pictures are kept in git, with the digests of the configs that they show; a test
compares the digests.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Error as PlaywrightError

from tests.support.browser import Annotator, annotator_at
from tests.support.label_studio import LabelStudio, label_studio_running
from tests.support.paths import ROOT
from tests.support.service import service_running

FOLDER = ROOT / "docs" / "user" / "gallery"
DIGESTS = FOLDER / "digests.json"
PICTURES = ROOT / "examples" / "demo"
RAW = ROOT / "artifacts" / "gallery"
WIDTH_PX = 960
MAX_BYTES = 120_000
# The picture with its controls, without the Data Manager and the panels beside it.
_SHOWN = ".lsf-main-content"
_HEIGHT_PX = 1150
_BAR_PX = 54


@dataclass(frozen=True)
class Exhibit:
    """A labeling config of the gallery, and the steps that lead to its screenshot.

    prompt: typed by the annotator; without it, the predictions are retrieved before the task is
    opened. click_pct: a place in the picture that is clicked with the first label, in percent.
    """

    name: str
    pictures: tuple[str, ...]
    prompt: str = ""
    number: float | None = None
    click_pct: tuple[float, float] | None = None

    @property
    def config(self) -> str:
        """The labeling config."""
        return (FOLDER / f"{self.name}.xml").read_text(encoding="utf-8")


EXHIBITS = (
    Exhibit("prompts", ("garden.jpg",), prompt="frog . horse . sunflower"),
    Exhibit("labels", ("street.jpg",)),
    Exhibit("aliases", ("farm.jpg",)),
    Exhibit("thresholds", ("meadow.jpg",), prompt="bee . butterfly . fox", number=0.35),
    Exhibit("brush", ("garden.jpg",), prompt="horse . frog . palm tree"),
    Exhibit("polygon", ("beach.jpg",)),
    Exhibit("bitmask", ("night.jpg",)),
    Exhibit("clicks", ("garden.jpg",), click_pct=(82.0, 40.0)),
    Exhibit("repeater", ("shapes_plain.png", "shapes_twins.png")),
    Exhibit("list", ("winter.jpg", "farm.jpg"), prompt="penguin . pine tree . fox"),
    Exhibit("humansignal-grounding-dino", ("yard.jpg",), prompt="cat . house"),
    Exhibit("humansignal-grounding-sam", ("yard.jpg",), prompt="cat . house"),
)


def digest(config: str) -> str:
    """Return the digest by which a screenshot names the config that it shows."""
    return hashlib.sha256(config.encode()).hexdigest()


def task_of(exhibit: Exhibit) -> dict[str, object]:
    """Return the task's data: `image`, or `pages` for configs with several pictures."""
    addresses = [f"/data/local-files/?d=demo/{name}" for name in exhibit.pictures]
    if exhibit.name == "repeater":
        return {"pages": [{"image": address} for address in addresses]}
    return {"pages": addresses} if len(addresses) > 1 else {"image": addresses[0]}


def take(exhibit: Exhibit, label_studio: LabelStudio, service: str, person: Annotator) -> None:
    """Make a project for the exhibit, follow its steps and keep the screenshot."""
    by_hand = bool(exhibit.prompt or exhibit.click_pct)
    project = label_studio.create_project(
        exhibit.name, exhibit.config, show_collab_predictions=not by_hand
    )
    label_studio.connect(project, service)
    label_studio.serve_local_files(project, PICTURES)
    sent = label_studio.api.post(f"/api/projects/{project}/import", json=[task_of(exhibit)])
    sent.raise_for_status()
    [task] = label_studio.tasks(project)
    if not by_hand:
        label_studio.retrieve_predictions(project)
        [prediction] = label_studio.predictions(project)
        assert prediction["result"], f"There are no boxes in {exhibit.name}."
        label_studio.show_predictions_of(project, prediction["model_version"])
    person.open_task(project, int(task["id"]))
    if by_hand:
        annotate(exhibit, person)
    elif not person.regions():  # the page has asked before the choice of the version was stored
        person.open_task(project, int(task["id"]))
    person.page.mouse.move(5, 5)
    person.page.wait_for_timeout(800)
    person.page.screenshot(path=RAW / f"{exhibit.name}-page.png")
    raw = RAW / f"{exhibit.name}.png"
    shown = person.page.locator(_SHOWN).first.bounding_box()
    person.page.screenshot(path=raw, clip=shown)
    assert person.regions(), f"There are no regions in {exhibit.name}."
    keep(raw, FOLDER / f"{exhibit.name}.webp")


def annotate(exhibit: Exhibit, person: Annotator) -> None:
    """Follow the exhibit's steps on the page of its task."""
    person.switch_on_auto_annotation()
    if exhibit.number is not None:
        person.type_number(exhibit.number)
    if exhibit.prompt:
        person.type_prompt(exhibit.prompt)
    if exhibit.click_pct:
        person.choose_smart_tool()
        person.click_smartly("1", exhibit.click_pct)
    person.accept_suggestions()


def without_margin(picture: Image.Image) -> Image.Image:
    """Return the picture without the bar at its bottom, and the rows above it of one colour."""
    pixels = np.asarray(picture)[: picture.height - _BAR_PX]
    filled = np.flatnonzero(np.ptp(pixels, axis=(1, 2)) > 24)
    return picture.crop((0, 0, picture.width, min(int(filled[-1]) + 16, len(pixels))))


def keep(raw: Path, target: Path) -> None:
    """Write the screenshot as WebP, smaller than MAX_BYTES."""
    with Image.open(raw) as shot:
        picture = without_margin(shot.convert("RGB"))
    picture.thumbnail((WIDTH_PX, 2 * WIDTH_PX), Image.Resampling.LANCZOS)
    for quality in range(88, 30, -6):
        picture.save(target, quality=quality, method=6)
        if target.stat().st_size < MAX_BYTES:
            return
    raise RuntimeError(f"{target.name} is larger than {MAX_BYTES} bytes.")


def main(names: Sequence[str]) -> None:
    """Write the screenshots of these exhibits; without names, of all."""
    shutil.rmtree(RAW, ignore_errors=True)
    RAW.mkdir(parents=True)
    faults: list[str] = []
    digests = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, name) for name in ("label-studio", "service")]
        for place in places:
            place.mkdir()
        with label_studio_running(places[0], RAW / "label-studio.log", ROOT / "examples") as studio:
            environment = {
                "LABEL_STUDIO_HOST": studio.url,
                "LABEL_STUDIO_ACCESS_TOKEN": studio.personal_token,
            }
            with (
                service_running(environment, places[1], RAW / "service.log") as service,
                annotator_at(studio.url, RAW) as person,
            ):
                person.page.set_viewport_size({"width": 1400, "height": _HEIGHT_PX})
                person.log_in()
                for exhibit in EXHIBITS:
                    if names and exhibit.name not in names:
                        continue
                    try:
                        take(exhibit, studio, service, person)
                    except (AssertionError, PlaywrightError) as error:
                        faults.append(f"{exhibit.name}: {error}")
                    else:
                        digests[exhibit.name] = digest(exhibit.config)
    DIGESTS.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
