from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from prelabel.checkpoints.cards import (
    CARDS_FOLDER,
    LOCK_NAME,
    SEGMENTERS_FOLDER,
    CheckpointLock,
    LockedFile,
    ModelCard,
    SegmenterCard,
    check_installed,
    list_cards,
    list_segmenter_cards,
    load_any_card,
    load_card,
    load_segmenter_card,
    model_folder,
    sha256_of,
    text_encoder_folder,
    verify,
)
from prelabel.errors import ModelError
from prelabel.settings.paths import PROJECT_ROOT

OWN_CARD = """
name: own
title: A fine-tuned model
engine: groundingdino
source: {source}
files:
  - path: own.pth
    {file}
weights: own.pth
config: GroundingDINO_SwinT_OGC.py
text_encoder: bert-base-uncased
image_size: {{shortest_edge: 800, longest_edge: 1333}}
licence: mine
"""


def own_card(folder: Path, *, source: str = "local", file: str = "size: 3") -> ModelCard:
    path = folder / "own.yaml"
    path.write_text(OWN_CARD.format(source=source, file=file))
    return load_card(str(path))


def test_every_shipped_card_is_valid_and_named_as_its_file() -> None:
    cards = list_cards()
    assert {card.name for card in cards} == {
        "demo",
        "grounding-dino-base",
        "grounding-dino-swin-b",
        "grounding-dino-swin-t",
        "grounding-dino-tiny",
        "llmdet-base",
        "llmdet-large",
        "llmdet-tiny",
        "mm-grounding-dino-base",
        "mm-grounding-dino-large",
        "mm-grounding-dino-tiny",
    }
    assert all(load_card(card.name) == card for card in cards)


def test_every_shipped_pth_is_pinned_by_hash_and_commit() -> None:
    """A .pth is a pickle, so that its card needs a hash."""
    pickles = [card for card in list_cards() if card.weights.endswith(".pth")]
    assert pickles
    assert all(card.revision and all(file.sha256 for file in card.files) for card in pickles)


def test_embedded_demo_is_whole_wherever_models_are_kept(tmp_path: Path) -> None:
    card = load_card("demo")
    assert model_folder(card, tmp_path) == CARDS_FOLDER / "demo"
    verify(card, model_folder(card, tmp_path))
    assert card.limits.startswith("It knows drawings, not photographs")


def test_relative_models_dir_is_the_same_from_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = load_card("llmdet-tiny")
    assert model_folder(card, "models") == PROJECT_ROOT / "models" / "llmdet-tiny"
    assert model_folder(card, "/big/disk") == Path("/big/disk/llmdet-tiny")


@pytest.mark.parametrize("name", ["nothing", "../errors", "", "DEMO"])
def test_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match=r"Known are demo, grounding-dino-base, .*llmdet-tiny"):
        load_card(name)


def test_missing_files_say_which_command_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Run `prelabel download grounding-dino-swin-t`"):
        check_installed(load_card("grounding-dino-swin-t"), tmp_path)


def test_incomplete_file_counts_as_not_installed(tmp_path: Path) -> None:
    card = own_card(tmp_path)
    (tmp_path / "own.pth").write_bytes(b"ab")
    with pytest.raises(ModelError, match=r"own\.pth is not complete: it has 2 of 3 bytes"):
        check_installed(card, tmp_path)


def test_own_card_finds_its_files_beside_itself(tmp_path: Path) -> None:
    card = own_card(tmp_path)
    assert model_folder(card, "models") == tmp_path
    (tmp_path / "own.pth").write_bytes(b"abc")
    check_installed(card, model_folder(card, "models"))
    assert (text_encoder_folder(card, tmp_path) / "tokenizer.json").is_file()


def test_verify_sees_a_changed_byte_that_check_installed_does_not(tmp_path: Path) -> None:
    weights = tmp_path / "own.pth"
    weights.write_bytes(b"abc")
    card = own_card(tmp_path, file=f"sha256: {sha256_of(weights)}")
    verify(card, tmp_path)
    weights.write_bytes(b"abd")
    check_installed(card, tmp_path)
    with pytest.raises(ModelError, match=r"own\.pth is damaged"):
        verify(card, tmp_path)


def test_lock_file_stands_in_for_hashes_that_a_card_does_not_have(tmp_path: Path) -> None:
    card = own_card(tmp_path, source="somebody/something", file="sha256: null")
    weights = tmp_path / "own.pth"
    weights.write_bytes(b"abc")
    lock = CheckpointLock(
        source="somebody/something",
        revision="0" * 40,
        files={"own.pth": LockedFile(sha256=sha256_of(weights), size=3)},
    )
    (tmp_path / LOCK_NAME).write_text(lock.model_dump_json())
    verify(card, tmp_path)
    weights.write_bytes(b"abd")
    with pytest.raises(ModelError, match="prelabel download own"):
        verify(card, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("engine: groundingdino", "engine: yolo", "engine"),
        ("licence: mine", "", "licence"),
        ("path: own.pth", "path: ../own.pth", r"files\.0\.path"),
        ("weights: own.pth", "weights: other.pth", "weights must be one of the files"),
        ("title: A", "tilte: A", "title|tilte"),
    ],
)
def test_wrong_card_says_where(tmp_path: Path, old: str, new: str, where: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN_CARD.format(source="local", file="size: 3").replace(old, new))
    with pytest.raises(ModelError, match=where):
        load_card(str(path))


@pytest.mark.parametrize("content", ["[1, 2", "", "just words"])
def test_file_that_is_no_card_is_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"model card own\.yaml"):
        load_card(str(path))


def test_missing_card_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model card own\.yaml"):
        load_card(str(tmp_path / "own.yaml"))


def test_cards_are_read_without_torch() -> None:
    code = (
        "import sys, prelabel.checkpoints.cards, prelabel.checkpoints.download, prelabel.engines\n"
        "prelabel.checkpoints.cards.list_cards()\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:3b3ca2\nsize 693997677\n"


def safetensors(cut: int = 0) -> bytes:
    table = b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    whole = len(table).to_bytes(8, "little") + table + bytes(8)
    return whole[: len(whole) - cut]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(100))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("own.pth", POINTER, "own.pth is a Git LFS pointer in place of the file."),
        ("model.safetensors", POINTER, "is a Git LFS pointer"),
        ("config.json", POINTER, "config.json is a Git LFS pointer"),
        ("own.pth", b"\n<!DOCTYPE html><title>Sign in</title>", "is a web page in place of"),
        ("own.bin", b"", "own.bin is empty."),
        ("model.safetensors", safetensors(1), "is truncated, or not a safetensors file."),
        ("model.safetensors", safetensors()[:40], "is truncated"),
        ("model.safetensors", b"\xff" * 100, "is truncated, or not a safetensors file"),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0[]", "is truncated, or not a safetensors file"),
        ("own.pth", zipped()[:-30], "own.pth is truncated."),
    ],
)
def test_what_stands_in_place_of_a_file_is_said_without_reading_it(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN_CARD.format(source="local", file="size: null").replace("own.pth", name))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        check_installed(load_card(str(path)), tmp_path)
    assert sentence in str(caught.value)
    assert "git lfs pull" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"), [("model.safetensors", safetensors()), ("own.pth", zipped())]
)
def test_whole_files_are_taken(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN_CARD.format(source="local", file="size: null").replace("own.pth", name))
    (tmp_path / name).write_bytes(content)
    check_installed(load_card(str(path)), tmp_path)


def test_pointer_of_a_shipped_card_is_sent_to_the_download(tmp_path: Path) -> None:
    card = load_card("llmdet-large")
    for file in card.files:
        (tmp_path / file.path).write_bytes(POINTER)
    with pytest.raises(ModelError, match=r"LFS pointer.* Run `prelabel download llmdet-large`"):
        check_installed(card, tmp_path)


def test_every_shipped_card_without_a_pin_says_what_the_download_does_instead() -> None:
    for card in list_cards():
        text = (CARDS_FOLDER / f"{card.name}.yaml").read_text().replace("\n# ", " ")
        unpinned = card.revision is None or any(file.sha256 is None for file in card.files)
        if card.downloadable:
            assert bool(re.search("could (not )?be confirmed", text)) == unpinned, card.name


OWN_SEGMENTER = """
name: own
title: A fine-tuned segmenter
engine: segment_anything
source: local
files:
  - path: own.safetensors
weights: own.safetensors
licence: mine
"""


def test_every_shipped_segmenter_is_valid_and_named_as_its_file() -> None:
    cards = list_segmenter_cards()
    assert {card.name for card in cards} == {
        "demo-segmenter",
        "sam-vit-base",
        "sam2.1-hiera-base-plus",
        "sam2.1-hiera-large",
        "sam2.1-hiera-small",
        "sam2.1-hiera-tiny",
        "slimsam-77",
    }
    assert all(load_segmenter_card(card.name) == card for card in cards)
    assert not {card.name for card in cards} & {card.name for card in list_cards()}


def test_embedded_segmenter_is_whole_wherever_models_are_kept(tmp_path: Path) -> None:
    card = load_segmenter_card("demo-segmenter")
    assert model_folder(card, tmp_path) == SEGMENTERS_FOLDER / "demo-segmenter"
    verify(card, model_folder(card, tmp_path))
    assert model_folder(load_segmenter_card("slimsam-77"), tmp_path) == tmp_path / "slimsam-77"


def test_a_card_of_either_kind_is_found_by_its_name_or_path(tmp_path: Path) -> None:
    assert isinstance(load_any_card("slimsam-77"), SegmenterCard)
    assert isinstance(load_any_card("demo"), ModelCard)
    (tmp_path / "seg.yaml").write_text(OWN_SEGMENTER)
    card = load_any_card(str(tmp_path / "seg.yaml"))
    assert isinstance(card, SegmenterCard)
    assert card.folder == tmp_path
    own_card(tmp_path)
    assert isinstance(load_any_card(str(tmp_path / "own.yaml")), ModelCard)
    with pytest.raises(ModelError, match=r"no model named 'nope'. Known are demo, .*slimsam-77"):
        load_any_card("nope")


@pytest.mark.parametrize("name", ["demo", "nope", ""])
def test_unknown_segmenter_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match=r"no segmenter named .* Known are demo-segmenter, sam-"):
        load_segmenter_card(name)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("engine: segment_anything", "engine: huggingface", "engine"),
        ("weights: own.safetensors", "weights: own.pth", "weights"),
        ("licence: mine", "licence: mine\ntext_encoder: checkpoint", "text_encoder"),
    ],
)
def test_wrong_card_of_a_segmenter_says_where(
    tmp_path: Path, old: str, new: str, where: str
) -> None:
    path = tmp_path / "seg.yaml"
    path.write_text(OWN_SEGMENTER.replace(old, new))
    with pytest.raises(ModelError, match=rf"seg\.yaml is wrong at .*{where}"):
        load_segmenter_card(str(path))


def test_every_shipped_segmenter_without_a_pin_says_what_the_download_does_instead() -> None:
    for card in list_segmenter_cards():
        text = (SEGMENTERS_FOLDER / f"{card.name}.yaml").read_text().replace("\n# ", " ")
        unpinned = card.revision is None or any(file.sha256 is None for file in card.files)
        if card.downloadable:
            assert bool(re.search("could (not )?be confirmed", text)) == unpinned, card.name
