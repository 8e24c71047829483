"""The demo pictures that the playground offers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from prelabel.errors import ImageAddressError
from prelabel.settings.paths import application_folder

FOLDER: Final = "examples/demo"
FILES: Final = (
    *("garden.jpg", "street.jpg", "breakfast.png", "farm.jpg"),
    *("meadow.jpg", "shapes_twins.png"),
)
_TITLES: Final = {"shapes_twins": "coloured shapes"}
_THUMBNAIL_WH: Final = (192, 128)
_THUMBNAIL_QUALITY: Final = 70


@dataclass(frozen=True)
class Example:
    """A demo picture with a prompt for it.

    Attributes:
        path: Its file.
        prompt: A prompt that names things that are in it, and one that is not.
        labels: The same as a list of labels.
    """

    path: Path
    prompt: str
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem

    @property
    def title(self) -> str:
        """Name for people."""
        return _TITLES.get(self.name, self.name)

    @cached_property
    def content(self) -> bytes:
        """The encoded picture."""
        return self.path.read_bytes()

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height of the upright picture in pixels."""
        return self._seen[0]

    @property
    def thumbnail(self) -> bytes:
        """The upright picture as a small JPEG."""
        return self._seen[1]

    @cached_property
    def _seen(self) -> tuple[tuple[int, int], bytes]:
        """Size and thumbnail: the picture is decoded once for both."""
        upright = ImageOps.exif_transpose(Image.open(BytesIO(self.content))).convert("RGB")
        wh = upright.size
        upright.thumbnail(_THUMBNAIL_WH)
        written = BytesIO()
        upright.save(written, "JPEG", quality=_THUMBNAIL_QUALITY, optimize=True)
        return wh, written.getvalue()


@cache
def load_examples() -> Mapping[str, Example]:
    """Return the demo pictures by name; none where the application was installed without them."""
    folder = application_folder() / FOLDER
    cases = folder / "cases.json"
    if not cases.is_file():
        return {}
    by_file = {case["image"]: case for case in json.loads(cases.read_text(encoding="utf-8"))}
    found = (
        Example(folder / file, by_file[file]["prompt"], tuple(by_file[file]["labels"]))
        for file in FILES
        if (folder / file).is_file()
    )
    return {example.name: example for example in found}


def example_of(examples: Mapping[str, Example], name: str) -> Example:
    """Return an example. Raises ImageAddressError if there is none of that name."""
    if name not in examples:
        raise ImageAddressError(
            f"There is no example {name[:50]!r}. The examples are {_listed(list(examples))}."
        )
    return examples[name]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "not installed"
