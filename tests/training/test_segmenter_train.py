"""The segmenter's training grows its pictures, resumes, and ends in a checkpoint to serve."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SamModel

from prelabel.checkpoints.cards import SEGMENTERS_FOLDER, load_segmenter_card, verify
from prelabel.engines import load_segmenter
from prelabel.types import MaskPrompt
from tests.support.paths import ROOT
from tests.training.processor import wants_bfloat16
from training.icons import Sprites
from training.segmentation.batches import SegmenterBatches
from training.segmentation.card import NAME, ship, write_card
from training.segmentation.model import build_segmenter, image_size, resized, save_segmenter
from training.segmentation.recipe import SegmenterRecipe
from training.segmentation.train import SegmenterTrainer
from training.world import World

TINY = SegmenterRecipe.read("tiny")
SHORT = replace(TINY, stages=tuple(replace(stage, steps=2) for stage in TINY.stages))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: on busy cores the threads of so small a model wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(trainer: SegmenterTrainer, world: World, until: int) -> list[float]:
    batches = SegmenterBatches(SHORT, world, Sprites({}))
    return [trainer.train_on(batches[step])["loss"] for step in range(trainer.step, until)]


def exported(trainer: SegmenterTrainer, folder: Path) -> SamModel:
    trainer.export(folder)
    return SamModel.from_pretrained(folder, dtype=torch.float32)


def test_recipes_end_where_they_say() -> None:
    full = SegmenterRecipe.read("full")
    assert full.stage(full.steps - 1) is full.stages[-1]
    assert full.rate(0) < full.rate(full.warm_up) == pytest.approx(full.peak_rate, rel=0.05)
    assert full.rate(full.steps - 1) < 0.05 * full.peak_rate
    last = full.steps - full.stages[-1].steps
    assert full.rate(last, first=last) < 0.1 * full.peak_rate  # warms up where it starts


@wants_bfloat16
@pytest.mark.parametrize("interrupted", [1, 2, 3])  # before, at and behind the larger pictures
def test_a_resumed_run_equals_one_that_was_never_stopped(
    interrupted: int, world: World, tmp_path: Path
) -> None:
    whole = SegmenterTrainer(SHORT, CPU, start=None)
    expected = trained(whole, world, SHORT.steps)
    first = SegmenterTrainer(SHORT, CPU, start=None)
    trained(first, world, interrupted)
    first.save(tmp_path / "state.pt")
    second = SegmenterTrainer(SHORT, CPU, start=None)
    assert not second.resume(tmp_path / "missing.pt")
    assert second.resume(tmp_path / "state.pt")
    losses = trained(second, world, SHORT.steps)
    assert losses == pytest.approx(expected[interrupted:], rel=1e-5)
    theirs = exported(whole, tmp_path / "whole")
    ours = exported(second, tmp_path / "resumed").state_dict()
    assert image_size(theirs) == SHORT.stages[-1].size
    for name, tensor in theirs.state_dict().items():
        assert torch.allclose(tensor, ours[name], rtol=1e-3, atol=1e-5), name


@wants_bfloat16
def test_the_state_of_another_recipe_is_not_gone_on_with(tmp_path: Path) -> None:
    SegmenterTrainer(TINY, CPU, start=None).save(tmp_path / "state.pt")
    with pytest.raises(SystemExit, match="another recipe"):
        SegmenterTrainer(SHORT, CPU, start=None).resume(tmp_path / "state.pt")


@torch.no_grad()
def test_a_model_for_larger_pictures_has_the_same_weights(tmp_path: Path) -> None:
    small = build_segmenter(64, seed=1)
    large = resized(small, 128)
    assert (image_size(small), image_size(large)) == (64, 128)
    state, grown = small.state_dict(), large.state_dict()
    positions = "vision_encoder.pos_embed"
    assert {n for n in state if state[n].shape != grown[n].shape} == {positions}
    assert all(torch.equal(state[n], grown[n]) for n in state if n != positions)
    assert torch.allclose(state[positions].mean(), grown[positions].mean(), atol=1e-3)
    save_segmenter(small, tmp_path)
    assert image_size(SamModel.from_pretrained(tmp_path)) == 64


@wants_bfloat16
@pytest.mark.timeout(300)
def test_the_command_ends_in_a_checkpoint_that_the_service_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.segmentation.train", "--recipe", "tiny"]
    command += ["--work", str(tmp_path), "--workers", "0", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    path = tmp_path / NAME / f"{NAME}.yaml"
    assert f"segmenter: {path}" in done.stdout
    log = [json.loads(line) for line in (tmp_path / "segmenter.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [20, 40]
    assert all(0 < entry["loss"] < 10 for entry in log)

    card = load_segmenter_card(str(path))
    verify(card, path.parent)
    engine = load_segmenter(card, path.parent, device="cpu", precision="float32")
    image = np.full((80, 100, 3), 128, np.uint8)
    [encoding] = engine.encode([engine.prepare(image)])
    prompts = [
        MaskPrompt(box_xyxy=(10, 10, 60, 50)),
        MaskPrompt((10, 10, 60, 50), ((30, 30),), (True,)),
    ]
    [masks] = engine.decode([(encoding, prompts)])
    assert all(np.isfinite(mask.logits).all() for mask in masks)


def test_shipping_copies_the_checkpoint_and_writes_its_hashes(tmp_path: Path) -> None:
    trained_folder, cards = tmp_path / "trained", tmp_path / "cards"
    (cards / NAME).mkdir(parents=True)
    card = SEGMENTERS_FOLDER / f"{NAME}.yaml"
    (cards / card.name).write_text(card.read_text())
    save_segmenter(build_segmenter(64, seed=1), trained_folder)
    ship(trained_folder, cards)
    shipped = load_segmenter_card(str(cards / card.name))
    verify(shipped, cards / NAME)
    beside = load_segmenter_card(str(write_card(trained_folder)))
    assert beside.files == shipped.files
    assert beside.source == "local"
    unchanged = re.compile(r"^(?!  ).*$", re.MULTILINE)
    assert unchanged.findall((cards / card.name).read_text()) == unchanged.findall(card.read_text())
