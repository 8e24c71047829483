from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prelabel.cards import (
    LOCK_NAME,
    PROJECT_ROOT,
    CheckpointLock,
    LockedFile,
    ModelCard,
    check_installed,
    list_cards,
    load_card,
    model_folder,
    sha256_of,
    text_encoder_folder,
    verify,
)
from prelabel.errors import ModelError

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
        "grounding-dino-swin-b",
        "grounding-dino-swin-t",
        "llmdet-tiny",
        "mm-grounding-dino-tiny",
    }
    assert all(load_card(card.name) == card for card in cards)


def test_every_shipped_pth_is_pinned_by_hash_and_commit() -> None:
    """A .pth is a pickle: never one that nobody has vouched for."""
    pickles = [card for card in list_cards() if card.weights.endswith(".pth")]
    assert pickles
    assert all(card.revision and all(file.sha256 for file in card.files) for card in pickles)


def test_embedded_demo_is_whole_wherever_models_are_kept(tmp_path: Path) -> None:
    card = load_card("demo")
    assert model_folder(card, tmp_path) == PROJECT_ROOT / "models" / "demo"
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
    with pytest.raises(ModelError, match=r"Known are demo, grounding-dino-swin-b, .*llmdet-tiny"):
        load_card(name)


def test_missing_files_say_which_command_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Run `prelabel download grounding-dino-swin-t`"):
        check_installed(load_card("grounding-dino-swin-t"), tmp_path)


def test_incomplete_file_counts_as_not_installed(tmp_path: Path) -> None:
    card = own_card(tmp_path)
    (tmp_path / "own.pth").write_bytes(b"ab")
    with pytest.raises(ModelError, match=r"own\.pth is not complete"):
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
        "import sys, prelabel.cards, prelabel.download, prelabel.engines\n"
        "prelabel.cards.list_cards()\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
