"""Training learns, resumes after a kill with the same results, and ends in a checkpoint."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prelabel.checkpoints.cards import load_card
from prelabel.engines import load_engine
from tests.support.paths import ROOT
from tests.training.processor import wants_bfloat16
from training.batches import Batches
from training.icons import Sprites
from training.recipe import Recipe
from training.train import Trainer
from training.world import World

TINY = Recipe.read("tiny")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_recipes_end_where_they_say() -> None:
    full = Recipe.read("full")
    assert full.steps == sum(stage.steps for stage in full.stages)
    assert full.stage(0) is full.stages[0]
    assert full.stage(full.steps - 1) is full.stages[-1]
    assert full.rate(0) < full.rate(full.warm_up) == pytest.approx(full.peak_rate, rel=0.05)
    assert full.rate(full.steps - 1) < 0.05 * full.peak_rate


def test_pictures_have_all_proportions_and_about_the_area_of_their_size() -> None:
    full = Recipe.read("full")
    sides = [full.hw(step) for step in range(full.steps)]
    ratios = [width / height for height, width in sides]
    assert 0.45 < min(ratios) < 0.55
    assert 1.85 < max(ratios) < 2.2
    last = sides[-full.stages[-1].steps :]
    assert max(height * width for height, width in last) > 0.9 * 224**2
    assert min(height * width for height, width in sides) < 1.1 * 96**2


def growing(at: int) -> Recipe:
    """`tiny`, with more queries from that step on."""
    [stage] = TINY.stages
    return replace(TINY, stages=(replace(stage, steps=at), replace(stage, queries=80)))


@wants_bfloat16
@pytest.mark.parametrize("recipe", [TINY, growing(2), growing(3), growing(5)])
def test_a_resumed_run_equals_one_that_was_never_stopped(
    recipe: Recipe, world: World, blots: Sprites, tmp_path: Path
) -> None:
    def train(trainer: Trainer, until: int) -> list[float]:
        batches = Batches(recipe, trainer.vocabulary, world, blots)
        return [trainer.train_on(batches[step])["loss"] for step in range(trainer.step, until)]

    device = torch.device("cpu")
    whole = Trainer(recipe, tmp_path, device)
    expected = train(whole, 6)
    first = Trainer(recipe, tmp_path, device)
    train(first, 3)
    first.save(tmp_path / "state.pt")
    second = Trainer(recipe, tmp_path, device)
    assert not second.resume(tmp_path / "missing.pt")
    assert second.resume(tmp_path / "state.pt")
    assert train(second, 6) == pytest.approx(expected[3:], rel=1e-5)
    ours, theirs = (trainer.checkpoint().state for trainer in (second, whole))
    shared = "decoder.bbox_embed.1.layers.2.weight"
    assert torch.equal(theirs[f"model.{shared}"], theirs[shared.removeprefix("decoder.")])
    for name, tensor in theirs.items():
        assert torch.allclose(tensor, ours[name], rtol=1e-3, atol=1e-5), name


def test_the_state_of_another_recipe_is_not_gone_on_with(tmp_path: Path) -> None:
    device = torch.device("cpu")
    Trainer(TINY, tmp_path, device).save(tmp_path / "state.pt")
    with pytest.raises(SystemExit, match="another recipe"):
        Trainer(Recipe.read("full"), tmp_path, device).resume(tmp_path / "state.pt")


def start(work: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["make", "train-demo", "RECIPE=tiny", f"ARGS=--work {work}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@wants_bfloat16
@pytest.mark.timeout(600)
def test_make_train_demo_survives_a_kill_and_ends_in_a_checkpoint(tmp_path: Path) -> None:
    state = tmp_path / "tiny.pt"
    run = start(tmp_path)
    assert run.stdout is not None
    deadline = time.monotonic() + 240
    while not state.exists():
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.5)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    assert not (tmp_path / "demo").exists()

    run = start(tmp_path)
    output, _ = run.communicate(timeout=400)
    assert run.returncode == 0, output
    assert "Resuming at step" in output
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["loss"] for entry in log}
    assert sorted(losses) == list(range(20, 201, 20))
    assert losses[200] < 0.8 * losses[20]

    card = load_card(str(tmp_path / "demo" / "demo.yaml"))
    engine = load_engine(card, tmp_path / "demo", device="cpu", precision="float32")
    picture = np.full((80, 100, 3), 128, np.uint8)
    [raw] = engine.detect(engine.prepare(picture, ("blue circle", "red square")))
    assert np.isfinite(raw.boxes_xyxy_norm).all()
    assert raw.phrase_max.shape == (50, 2)
