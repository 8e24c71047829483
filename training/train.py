"""Trains the demo model from nothing: `python -m training.train`, or `make train-demo`.

Scenes are made on the fly from the seed and the step's number, so that a run that was killed goes
on as if it had not been. Everything it writes is in the work folder: icons, the state to resume
from, `log.jsonl`, and `demo/`, a folder to serve.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import DataLoader, Dataset

from prelabel.engines.preprocess import normalised
from training import WORK
from training.calibrate import calibrate
from training.card import write_card
from training.deformable import compile_kernel, use_kernel
from training.evaluate import quick_measures
from training.icons import IconError, Sprites, icon_sets, load_sprites
from training.losses import Targets, boxes_cxcywh, detection_loss, pad_rows
from training.model import (
    QUERIES_KEY,
    Checkpoint,
    Vocabulary,
    build_model,
    repeated,
    set_queries,
)
from training.scenes import SceneKind, SceneMaker
from training.world import World, load_world

_RECIPES = Path(__file__).resolve().with_name("recipe.yaml")
_SIDE_STEP = 8  # sides of training pictures are multiples of this
_WIDEST = 2.0
_SQUARISH, _SQUARISH_SHARE = 4 / 3, 0.5
_MAX_GRADIENT = 5.0
_DECAY = 1e-2
_MATRIX = 16  # a smaller side than this makes a head or a table, not a layer
_FINAL_RATE = 0.02
_LOG_EVERY = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """See recipe.yaml."""

    steps: int
    batch: int
    sizes: tuple[int, ...]
    things: float
    objects: tuple[int, int]
    least_px: int
    phrases: tuple[int, int]
    nothing: float
    shapes_only: float = 0.0
    repeated: float = 0.0
    queries: int = 50

    @property
    def scenes(self) -> SceneKind:
        """What its scenes look like."""
        return SceneKind(
            things=self.things,
            shapes_only=self.shapes_only,
            repeated=self.repeated,
            objects=self.objects,
            phrases=self.phrases,
            kept=0.88,
            nothing=self.nothing,
            strangers=0.15,
            distorted=True,
            least_px=self.least_px,
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """See recipe.yaml."""

    seed: int
    peak_rate: float
    warm_up: int
    cool_down: int
    average: float
    stages: tuple[Stage, ...]
    save_every: int
    evaluate_every: int
    false_boxes: float | None

    @classmethod
    def read(cls, name: str) -> Recipe:
        """The recipe of that name."""
        entry = yaml.safe_load(_RECIPES.read_text())[name]
        stages: list[dict[str, Any]] = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
            for one in entry.pop("stages")
        ]
        return cls(stages=tuple(Stage(**stage) for stage in stages), **entry)

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """The one that a step (from 0) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def rate(self, step: int) -> float:
        """The learning rate: a warm-up, a plateau, and a straight way down."""
        warm = min(1.0, (step + 1) / self.warm_up)
        left = min(1.0, (self.steps - step) / self.cool_down)
        return self.peak_rate * warm * (_FINAL_RATE + (1 - _FINAL_RATE) * left)

    def hw(self, step: int) -> tuple[int, int]:
        """Height and width of a step's pictures."""
        chance = random.Random(f"{self.seed} {step}")
        side = chance.choice(self.stage(step).sizes)
        widest = _SQUARISH if chance.random() < _SQUARISH_SHARE else _WIDEST
        ratio = math.exp(chance.uniform(-1, 1) * math.log(widest))
        height, width = (
            round(length / _SIDE_STEP) * _SIDE_STEP
            for length in (side / math.sqrt(ratio), side * math.sqrt(ratio))
        )
        return height, width


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """pixels: float32 [B, 3, H, W], normalised; token_rows: int64 [B, T], of the vocabulary."""

    pixels: torch.Tensor
    token_rows: torch.Tensor
    targets: Targets


class Batches(Dataset[TrainingBatch]):
    """The batch of each step."""

    def __init__(
        self, recipe: Recipe, vocabulary: Vocabulary, world: World, sprites: Sprites
    ) -> None:
        self._recipe = recipe
        self._vocabulary = vocabulary
        self._makers = {
            stage: SceneMaker(world, sprites, stage.scenes, vocabulary.strangers())
            for stage in recipe.stages
        }

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, step: int) -> TrainingBatch:
        hw, stage = self._recipe.hw(step), self._recipe.stage(step)
        make_scene = self._makers[stage]
        scenes = [
            make_scene((self._recipe.seed, step, number), hw) for number in range(stage.batch)
        ]
        captions = [self._vocabulary.caption(scene.phrases) for scene in scenes]
        rows, owners = zip(*captions, strict=True)
        owner = pad_rows(owners, -1)
        phrases = max(len(scene.phrases) for scene in scenes)
        return TrainingBatch(
            pixels=normalised(torch.stack([torch.tensor(scene.image) for scene in scenes])),
            token_rows=pad_rows(rows, 0),
            targets=Targets(
                boxes=[boxes_cxcywh(torch.tensor(scene.boxes), hw) for scene in scenes],
                labels=[torch.tensor(scene.labels) for scene in scenes],
                phrase_tokens=(owner[:, None] == torch.arange(phrases)[None, :, None]).float(),
                token_mask=pad_rows([[1] * len(row) for row in rows], 0).bool(),
            ),
        )


class Trainer:
    """The model with its optimiser and its moving average, to be stepped, saved and resumed."""

    def __init__(self, recipe: Recipe, work: Path, device: torch.device) -> None:
        self._recipe = recipe
        self._device = device
        self._world = load_world()
        self.vocabulary = Vocabulary(self._world)
        self._model = build_model(self._world, self.vocabulary, recipe.seed)
        torch.nn.Module.to(self._model, device)  # transformers' own `to` is not typed
        kernel = compile_kernel(work) if device.type == "cpu" else None
        if kernel is not None:
            use_kernel(self._model, kernel)
        self._optimisers = self._make_optimisers()
        self._average = {
            name: parameter.detach().clone() for name, parameter in self._model.named_parameters()
        }
        self.step = 0
        self.seconds = 0.0  # of training, those before a resumption included

    def checkpoint(self) -> Checkpoint:
        """The moving average, which is better than the last weights."""
        first_name = {id(tensor): name for name, tensor in self._model.named_parameters()}
        averages = {  # shared weights have several names, and one average
            name: self._average[first_name[id(tensor)]]
            for name, tensor in self._model.named_parameters(remove_duplicate=False)
        }
        state = self._model.state_dict() | averages
        return Checkpoint({n: tensor.cpu() for n, tensor in state.items()}, self.vocabulary)

    def train_on(self, batch: TrainingBatch) -> dict[str, float]:
        """One step. Returns the loss and its parts."""
        began = time.monotonic()
        self._set_queries(self._recipe.stage(self.step).queries)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._recipe.rate(self.step) * group.get("factor", 1.0)
            optimiser.zero_grad(set_to_none=True)
        targets = batch.targets.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            output = self._model.model(
                pixel_values=batch.pixels.to(self._device, non_blocking=True),
                input_ids=batch.token_rows.to(self._device, non_blocking=True),
                attention_mask=targets.token_mask.long(),
            )
        height, width = batch.pixels.shape[2:]
        loss, parts = detection_loss(self._model, output, targets, (height, width))
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_GRADIENT)
        if norm.isfinite():  # a rare overflow must not end the run
            for optimiser in self._optimisers:
                optimiser.step()
        self.step += 1
        self._follow()
        self.seconds += time.monotonic() - began
        return {"loss": float(loss.detach()), "gradient": float(norm), **parts}

    def save(self, path: Path) -> None:
        """Write the state; a kill in the middle leaves the one before."""
        unfinished = path.with_suffix(".part")
        state = {
            "recipe": repr(self._recipe),
            "step": self.step,
            "seconds": self.seconds,
            "model": self._model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "average": self._average,
        }
        torch.save(state, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> bool:
        """Go on where a run of this recipe was saved; whether there was one."""
        if not path.is_file():
            return False
        state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        if state["recipe"] != repr(self._recipe):
            raise SystemExit(
                f"{path} is the state of another recipe. Move it away, or name another --work."
            )
        self._set_queries(len(state["model"][QUERIES_KEY]))
        self._model.load_state_dict(state["model"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self._average = state["average"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def _set_queries(self, count: int) -> None:
        """As set_queries, with what the average and the optimisers know of them."""
        table = self._model.get_parameter(QUERIES_KEY)
        if len(table) == count:
            return
        set_queries(self._model, count)
        self._average[QUERIES_KEY] = repeated(self._average[QUERIES_KEY], count)
        for optimiser in self._optimisers:
            known = optimiser.state.get(table, {})
            known.update({k: repeated(v, count) for k, v in known.items() if v.ndim})

    def _follow(self) -> None:
        """Move the average towards the weights; faster at first, when it still holds noise."""
        keep = min(self._recipe.average, 1 - 1 / (self.step * 0.2 + 1))
        parameters = dict(self._model.named_parameters())
        torch._foreach_lerp_(
            list(self._average.values()), [parameters[n].detach() for n in self._average], 1 - keep
        )

    def _make_optimisers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices of attention and feed-forward layers, AdamW for the rest.

        Offsets learn slowly; biases, norms and embeddings do not decay.
        """
        matrices, weights, others, offsets = ([] for _ in range(4))
        for name, parameter in self._model.named_parameters():
            if "sampling_offsets" in name:
                offsets.append(parameter)
            elif parameter.ndim < 2 or "embedding" in name or "reference" in name:
                others.append(parameter)
            elif parameter.ndim == 2 and min(parameter.shape) >= _MATRIX:
                matrices.append(parameter)
            else:
                weights.append(parameter)
        groups = [
            {"params": weights, "weight_decay": _DECAY, "factor": 1.0},
            {"params": others, "weight_decay": 0.0, "factor": 1.0},
            {"params": offsets, "weight_decay": 0.0, "factor": 0.2},
        ]
        return [
            torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True),
            # Its updates scaled to the size of AdamW's, so that one rate serves both.
            torch.optim.Muon(matrices, weight_decay=_DECAY, adjust_lr_fn="match_rms_adamw"),
        ]


def main() -> None:
    """Train, showing progress; interrupt it whenever you like and start it again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="full", help="of training/recipe.yaml: full, tiny")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for everything it writes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=None, help="processes that make scenes")
    arguments = parser.parse_args()
    recipe = Recipe.read(arguments.recipe)
    device = torch.device(arguments.device)
    torch.set_flush_denormal(True)  # a processor is slow with numbers that small
    arguments.work.mkdir(parents=True, exist_ok=True)
    state, log = arguments.work / f"{arguments.recipe}.pt", arguments.work / "log.jsonl"

    trainer = Trainer(recipe, arguments.work, device)
    if trainer.resume(state):
        print(f"Going on at step {trainer.step} of {recipe.steps}.", flush=True)
    workers = (
        arguments.workers if arguments.workers is not None else (1 if device.type == "cpu" else 8)
    )
    try:
        batches = _batches(recipe, trainer, arguments.work, workers, device)
        for losses in _training(trainer, recipe, batches, state):
            _write(log, losses)
            if recipe.evaluate_every and trainer.step % recipe.evaluate_every == 0:
                _evaluate(trainer, arguments.work, log)
    except IconError as error:
        raise SystemExit(str(error)) from error
    folder = export(trainer, arguments.work)
    if recipe.false_boxes is not None:
        calibrate(folder, arguments.work, recipe.false_boxes)
    print(f"Done: {folder}. Serve it with `model: {folder / 'demo.yaml'}`.", flush=True)


def export(trainer: Trainer, work: Path) -> Path:
    """Write the checkpoint with a model card, as a folder that the service can be pointed to."""
    folder = work / "demo"
    trainer.checkpoint().save(folder)
    write_card(folder)
    return folder


def _batches(
    recipe: Recipe, trainer: Trainer, work: Path, workers: int, device: torch.device
) -> Iterator[TrainingBatch]:
    world = load_world()
    drawn = any(stage.things for stage in recipe.stages)
    sprites = load_sprites(world, work / "icons", icon_sets("train") if drawn else [])
    loader = DataLoader(
        Batches(recipe, trainer.vocabulary, world, sprites),
        batch_size=None,
        sampler=range(trainer.step, recipe.steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
    )
    return iter(loader)


def _training(
    trainer: Trainer, recipe: Recipe, batches: Iterator[TrainingBatch], state: Path
) -> Iterator[dict[str, float]]:
    """Steps to the end; yields the mean losses of every few, and saves the state."""
    collected: list[dict[str, float]] = []
    for batch in batches:
        collected.append(trainer.train_on(batch))
        if trainer.step % recipe.save_every == 0 or trainer.step == recipe.steps:
            trainer.save(state)
        if trainer.step % _LOG_EVERY == 0 or trainer.step == recipe.steps:
            mean = {k: sum(c[k] for c in collected) / len(collected) for k in collected[0]}
            left = trainer.seconds / trainer.step * (recipe.steps - trainer.step)
            print(
                f"step {trainer.step}/{recipe.steps}  loss {mean['loss']:.3f}  "
                f"phrases {mean['phrases']:.3f}  {trainer.seconds / 60:.1f} min, "
                f"about {left / 60:.0f} to go",
                flush=True,
            )
            yield {"step": trainer.step, "minutes": round(trainer.seconds / 60, 2)} | mean
            collected.clear()


def _evaluate(trainer: Trainer, work: Path, log: Path) -> None:
    measures = quick_measures(export(trainer, work), work)
    print(f"  measured: {measures}", flush=True)
    _write(log, {"step": trainer.step, "measures": measures})


def _write(log: Path, entry: dict[str, Any]) -> None:
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in entry.items()}
    with log.open("a") as file:
        file.write(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
        sys.exit()
    sys.exit("Interrupted. Start it again, and it goes on where it last saved.")
