import base64
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from training.icons import SPRITE_PX, IconError, IconSet, Sprites, icon_sets, load_sprites
from training.world import World

RED_CAT = '<path fill="#f00" d="M4 8h16v8H4z"/>'
ICONS = {
    "icons": {"cat": {"body": RED_CAT}, "dogface": {"body": '<circle cx="12" cy="12" r="9"/>'}},
    "aliases": {"cat-face": {"parent": "cat"}},
    "width": 24,
    "height": 24,
}


@pytest.fixture
def drawn_set(tmp_path: Path) -> IconSet:
    """A set of two drawings, lying in the cache `tmp_path` as npm would have packed it."""
    content = json.dumps(ICONS).encode()
    with tarfile.open(tmp_path / "drawn.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("package/icons.json")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha512((tmp_path / "drawn.tgz").read_bytes()).digest()
    integrity = "sha512-" + base64.b64encode(digest).decode()
    return IconSet("drawn", "Drawn", "train", "@none/drawn@1.0.0", integrity, "CC0-1.0", "-", "-")


def test_icons_become_cropped_sprites(
    world: World, tmp_path: Path, drawn_set: IconSet, capsys: pytest.CaptureFixture[str]
) -> None:
    sprites = load_sprites(world, tmp_path, [drawn_set])
    assert set(sprites.drawings) == {"cat", "dog"}  # "dogface" is dog-face without its dash
    cats = sprites.drawings["cat"]["drawn"]
    assert cats[0].shape[1] == pytest.approx(16 / 24 * 256, abs=2)
    assert max(cats[0].shape) <= SPRITE_PX
    assert cats[0].shape[1] == pytest.approx(2 * cats[0].shape[0], abs=2)
    assert tuple(cats[0][20, 20]) == (255, 0, 0, 255)
    assert "Rendering" in capsys.readouterr().out
    again = load_sprites(world, tmp_path, [drawn_set])
    assert np.array_equal(again.drawings["cat"]["drawn"][0], cats[0])
    assert capsys.readouterr().out == ""


def test_an_archive_with_another_hash_is_refused_and_removed(
    world: World, tmp_path: Path, drawn_set: IconSet
) -> None:
    archive = tmp_path / "drawn.tgz"
    archive.write_bytes(archive.read_bytes() + b"!")
    with pytest.raises(IconError, match="does not have the recorded hash"):
        load_sprites(world, tmp_path, [drawn_set])
    assert not archive.exists()


def test_without_npm_a_sentence_says_what_to_do(
    world: World, tmp_path: Path, drawn_set: IconSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drawn.tgz").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IconError, match="Install npm"):
        load_sprites(world, tmp_path, [drawn_set])


def test_a_package_that_does_not_exist_is_named(
    world: World, tmp_path: Path, drawn_set: IconSet
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    (tmp_path / "drawn.tgz").unlink()
    with pytest.raises(IconError, match="@none/drawn"):
        load_sprites(world, tmp_path, [drawn_set])


def test_held_out_artists_are_not_trained_on() -> None:
    trained = {icon_set.name for icon_set in icon_sets("train")}
    held_out = {icon_set.name for icon_set in icon_sets("held_out")}
    assert held_out == {"openmoji", "emojione", "fxemoji"}
    assert not any(name.startswith(tuple(held_out)) for name in trained)
    assert len(trained) >= 6


def test_a_real_set_comes_from_the_registry(firefox: Sprites) -> None:
    assert len(firefox.drawings) > 80
    for by_set in firefox.drawings.values():
        for drawing in by_set["fxemoji"]:
            assert drawing.shape[2] == 4
            assert 20 < max(drawing.shape[:2]) <= SPRITE_PX
            assert (drawing[..., 3] > 200).mean() > 0.05
