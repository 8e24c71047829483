"""Drawings of objects: icon sets from the npm registry, rendered once and cached as sprites.

A sprite is an RGBA picture, cropped to its opaque part, with a longer side of at most `SPRITE_PX`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import resvg_py
import yaml
from numpy.typing import NDArray
from PIL import Image

from training.world import Concept, World

SPRITE_PX = 192
_RENDER_SCALE = 4 / 3  # rendered size by sprite size: the borders of icons are cropped away
_OPAQUE = 40  # alpha above which a pixel belongs to the drawing
_SETS_FILE = Path(__file__).resolve().with_name("icon_sets.yaml")
_INK = "#202020"  # `currentColor` for sets that leave the colour to the page

Drawing = NDArray[np.uint8]  # [h, w, 4]
Role = Literal["train", "held_out"]


class IconError(Exception):
    """Icons cannot be fetched; the message says what to do."""


@dataclass(frozen=True, slots=True)
class IconSet:
    """An icon set, a package of the npm registry.

    `integrity` is "sha512-" and the base64 hash of its archive. `role` is "train" for sets that
    scenes of training use, and "held_out" for sets that only measure.
    """

    name: str
    title: str
    role: Role
    package: str
    integrity: str
    licence: str
    author: str
    url: str


@dataclass(frozen=True, slots=True)
class Sprites:
    """Drawings by name of the object, then by name of the icon set: RGBA, uint8 [h, w, 4]."""

    drawings: dict[str, dict[str, list[Drawing]]]

    def of_sets(self, names: set[str]) -> Sprites:
        """Return the drawings of some icon sets, without objects that none of these sets has."""
        selected = {
            thing: {name: pictures for name, pictures in by_set.items() if name in names}
            for thing, by_set in self.drawings.items()
        }
        return Sprites({thing: by_set for thing, by_set in selected.items() if by_set})


def icon_sets(role: Role | None = None) -> list[IconSet]:
    """Read the sets of icon_sets.yaml, all or those of one role."""
    sets = [IconSet(**entry) for entry in yaml.safe_load(_SETS_FILE.read_text())]
    return [icon_set for icon_set in sets if role in (None, icon_set.role)]


def load_sprites(
    world: World, cache: Path, sets: list[IconSet], longest_px: int = SPRITE_PX
) -> Sprites:
    """Load the sprites of all things from icon sets, fetched and rendered if the cache lacks them.

    Args:
        world: The things.
        cache: Folder of archives and sprites.
        sets: The icon sets.
        longest_px: Most pixels of a sprite's longer side.

    Raises:
        IconError: A package cannot be fetched, or does not have the recorded hash.
    """
    drawings: dict[str, dict[str, list[Drawing]]] = {thing.name: {} for thing in world.things}
    for icon_set in sets:
        for thing, pictures in _sprites_of(icon_set, world, cache, longest_px).items():
            drawings[thing][icon_set.name] = pictures
    return Sprites({thing: by_set for thing, by_set in drawings.items() if by_set})


def _sprites_of(
    icon_set: IconSet, world: World, cache: Path, longest_px: int
) -> dict[str, list[Drawing]]:
    key = json.dumps([[t.name, t.icons] for t in world.things] + [icon_set.integrity, longest_px])
    path = cache / f"{icon_set.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    if not path.is_file():
        print(f"Rendering {icon_set.title} ...", flush=True)
        package = _Package(_fetch(icon_set, cache), cache)
        rendered = {
            f"{thing.name}/{i}": picture
            for thing in world.things
            for i, picture in enumerate(package.draw(thing, longest_px))
        }
        _save(path, rendered)
    pictures: dict[str, list[Drawing]] = {}
    with np.load(path) as archive:
        for key in archive.files:
            pictures.setdefault(key.split("/")[0], []).append(archive[key])
    return pictures


def _save(path: Path, arrays: dict[str, Drawing]) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    unfinished.replace(path)


def _fetch(icon_set: IconSet, cache: Path) -> Path:
    """Return the path of the set's archive, fetched by npm and checked against its hash."""
    path = cache / f"{icon_set.name}.tgz"
    cache.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise IconError(
                "npm is missing, which fetches the icons from its registry. Install npm "
                "(Debian: npm)."
            )
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [npm, "pack", "--silent", "--pack-destination", folder, icon_set.package]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            archives = list(Path(folder).glob("*.tgz"))
            if result.returncode != 0 or not archives:
                raise IconError(
                    f"npm could not fetch {icon_set.package}: {result.stderr.strip()[-300:]}"
                )
            archives[0].replace(path)
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != icon_set.integrity:
        path.unlink()
        raise IconError(
            f"The archive of {icon_set.package} does not have the recorded hash. Try again."
        )
    return path


class _Package:
    """An archive of icons: SVG bodies in iconify's JSON, or picture files named by code points."""

    def __init__(self, archive: Path, cache: Path) -> None:
        self._archive = tarfile.open(archive)  # noqa: SIM115 - stays open for `draw`
        names = set(self._archive.getnames())
        self._bodies: dict[str, Any] | None = None
        if "package/icons.json" in names:
            self._bodies = self._json("package/icons.json")
            # Firefox OS writes names without dashes.
            self._names = {name.replace("-", ""): name for name in self._all_names()}
        else:
            # Noto's package maps code points to the names that all emoji sets share.
            noto = next(other for other in icon_sets() if other.name == "noto")
            with tarfile.open(_fetch(noto, cache)) as archive_of_names:
                file = archive_of_names.extractfile("package/chars.json")
                assert file is not None
                chars: dict[str, str] = json.load(file)
            files = {Path(name).stem.removesuffix("-fe0f"): name for name in sorted(names)}
            self._names = {
                name.replace("-", ""): files[char] for char, name in chars.items() if char in files
            }

    def draw(self, thing: Concept, longest_px: int) -> list[Drawing]:
        """Render the icons of a thing that the archive has."""
        names = dict.fromkeys(
            self._names[icon.replace("-", "")]
            for icon in thing.icons
            if icon.replace("-", "") in self._names
        )
        size = round(longest_px * _RENDER_SCALE)
        return [_cropped(self._render(name, size), longest_px) for name in names]

    def _all_names(self) -> list[str]:
        assert self._bodies is not None
        return [*self._bodies.get("aliases", {}), *self._bodies["icons"]]

    def _render(self, name: str, size: int) -> Image.Image:
        if self._bodies is None:
            file = self._archive.extractfile(name)
            assert file is not None
            return Image.open(io.BytesIO(file.read())).convert("RGBA")
        aliases = self._bodies.get("aliases", {})
        while name in aliases:
            name = aliases[name]["parent"]
        icon = self._bodies["icons"][name]
        width, height = (icon.get(side, self._bodies.get(side, 16)) for side in ("width", "height"))
        scale = size / max(width, height)
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width * scale:g}" height="{height * scale:g}" color="{_INK}" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">'
            f"{icon['body']}</svg>"
        )
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
        return Image.open(io.BytesIO(png)).convert("RGBA")

    def _json(self, name: str) -> dict[str, Any]:
        file = self._archive.extractfile(name)
        assert file is not None
        content: dict[str, Any] = json.load(file)
        return content


def _cropped(picture: Image.Image, longest_px: int) -> Drawing:
    cropped = picture.crop(opaque_box(picture))
    cropped.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return np.asarray(cropped)


def opaque_box(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the opaque part of an RGBA picture; None without."""
    opaque = picture.getchannel("A").point(lambda alpha: 255 if alpha > _OPAQUE else 0)
    return opaque.getbbox()
