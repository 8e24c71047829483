"""Training of the demo model from scratch: `python -m training.train`, or `make train-demo`.

Scenes are made on the fly from the seed and the step's number, so that a run that was killed
continues with the same results. All output is in the work folder: icons, the state to resume from,
`log.jsonl`, and `demo/`, a folder to serve.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from training import WORK
from training.batches import Batches, TrainingBatch
from training.calibrate import calibrate
from training.card import write_card
from training.deformable import compile_kernel, use_kernel
from training.evaluate import quick_measures
from training.icons import IconError, icon_sets, load_sprites
from training.losses import detection_loss
from training.model import (
    QUERIES_KEY,
    Checkpoint,
    Vocabulary,
    build_model,
    repeated,
    set_queries,
)
from training.recipe import Recipe
from training.world import load_world

_MAX_GRADIENT = 5.0  # norm to which gradients are clipped
_DECAY = 1e-2
_MIN_MATRIX_SIDE = 16  # a parameter with a smaller side is a head or a table, and not for Muon
_LOG_EVERY = 20  # steps
_OFFSET_RATE = 0.2  # rate of deformable attention's offsets, by the rate of all others


class Trainer:
    """The model with its optimisers and its moving average.

    Args:
        recipe: The recipe.
        work: Folder of the compiled kernel.
        device: Device to train on.

    Attributes:
        step: Number of steps done.
        seconds: Seconds of training, including those before the run was resumed.
    """

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
        self.seconds = 0.0

    def checkpoint(self) -> Checkpoint:
        """Return the moving average of the weights, which is better than the last weights."""
        first_name = {id(tensor): name for name, tensor in self._model.named_parameters()}
        averages = {  # a shared weight has several names and one average
            name: self._average[first_name[id(tensor)]]
            for name, tensor in self._model.named_parameters(remove_duplicate=False)
        }
        state = self._model.state_dict() | averages
        return Checkpoint({name: tensor.cpu() for name, tensor in state.items()}, self.vocabulary)

    def train_on(self, batch: TrainingBatch) -> dict[str, float]:
        """Do one step. Returns the loss, its terms, and the norm of the gradient."""
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
        if norm.isfinite():  # a rare overflow must not spoil the weights
            for optimiser in self._optimisers:
                optimiser.step()
        self.step += 1
        self._update_average()
        self.seconds += time.monotonic() - began
        return {"loss": float(loss.detach()), "gradient": float(norm), **parts}

    def save(self, path: Path) -> None:
        """Write the state. A run that is killed meanwhile keeps the state before."""
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
        """Load the state of a run. Returns False if there is none.

        Raises:
            SystemExit: The state belongs to another recipe.
        """
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
        """Change the number of queries in the model, the average and the optimisers' states."""
        table = self._model.get_parameter(QUERIES_KEY)
        if len(table) == count:
            return
        set_queries(self._model, count)
        self._average[QUERIES_KEY] = repeated(self._average[QUERIES_KEY], count)
        for optimiser in self._optimisers:
            state = optimiser.state.get(table, {})
            state.update(
                {key: repeated(value, count) for key, value in state.items() if value.ndim}
            )

    def _update_average(self) -> None:
        """Move the average towards the weights, faster at first while it holds noise."""
        keep = min(self._recipe.average, 1 - 1 / (self.step * 0.2 + 1))
        parameters = dict(self._model.named_parameters())
        torch._foreach_lerp_(
            list(self._average.values()),
            [parameters[name].detach() for name in self._average],
            1 - keep,
        )

    def _make_optimisers(self) -> list[torch.optim.Optimizer]:
        """Return AdamW, and Muon for the matrices of attention and feed-forward layers.

        Offsets of deformable attention learn slowly. Biases, norms and embeddings do not decay.
        """
        matrices, weights, others, offsets = ([] for _ in range(4))
        for name, parameter in self._model.named_parameters():
            if "sampling_offsets" in name:
                offsets.append(parameter)
            elif parameter.ndim < 2 or "embedding" in name or "reference" in name:
                others.append(parameter)
            elif parameter.ndim == 2 and min(parameter.shape) >= _MIN_MATRIX_SIDE:
                matrices.append(parameter)
            else:
                weights.append(parameter)
        groups = [
            {"params": weights, "weight_decay": _DECAY, "factor": 1.0},
            {"params": others, "weight_decay": 0.0, "factor": 1.0},
            {"params": offsets, "weight_decay": 0.0, "factor": _OFFSET_RATE},
        ]
        return [
            torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True),
            # Updates are scaled to the size of AdamW's, so that one rate serves both.
            torch.optim.Muon(matrices, weight_decay=_DECAY, adjust_lr_fn="match_rms_adamw"),
        ]


def main() -> None:
    """Train and show the progress. A run can be interrupted and started again at any time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="full", help="full or tiny, of recipe.yaml")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of all output")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=None, help="processes that make scenes")
    arguments = parser.parse_args()
    recipe = Recipe.read(arguments.recipe)
    device = torch.device(arguments.device)
    torch.set_flush_denormal(True)  # denormal numbers slow a CPU down
    arguments.work.mkdir(parents=True, exist_ok=True)
    state, log = arguments.work / f"{arguments.recipe}.pt", arguments.work / "log.jsonl"

    trainer = Trainer(recipe, arguments.work, device)
    if trainer.resume(state):
        print(f"Resuming at step {trainer.step} of {recipe.steps}.", flush=True)
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
    print(f"Done: {folder}. Serve it with `model: {{name: {folder / 'demo.yaml'}}}`.", flush=True)


def export(trainer: Trainer, work: Path) -> Path:
    """Write the checkpoint with its card into `work`/demo, which the service can load."""
    folder = work / "demo"
    trainer.checkpoint().save(folder)
    write_card(folder)
    return folder


def _batches(
    recipe: Recipe, trainer: Trainer, work: Path, workers: int, device: torch.device
) -> Iterator[TrainingBatch]:
    world = load_world()
    has_things = any(stage.things for stage in recipe.stages)
    sprites = load_sprites(world, work / "icons", icon_sets("train") if has_things else [])
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
    """Train to the end. Saves the state, and yields the mean losses of every few steps."""
    collected: list[dict[str, float]] = []
    for batch in batches:
        collected.append(trainer.train_on(batch))
        if trainer.step % recipe.save_every == 0 or trainer.step == recipe.steps:
            trainer.save(state)
        if trainer.step % _LOG_EVERY == 0 or trainer.step == recipe.steps:
            mean = {
                name: sum(losses[name] for losses in collected) / len(collected)
                for name in collected[0]
            }
            left_s = trainer.seconds / trainer.step * (recipe.steps - trainer.step)
            print(
                f"step {trainer.step}/{recipe.steps}  loss {mean['loss']:.3f}  "
                f"phrases {mean['phrases']:.3f}  {trainer.seconds / 60:.1f} min, "
                f"about {left_s / 60:.0f} to go",
                flush=True,
            )
            yield {"step": trainer.step, "minutes": round(trainer.seconds / 60, 2)} | mean
            collected.clear()


def _evaluate(trainer: Trainer, work: Path, log: Path) -> None:
    measures = quick_measures(export(trainer, work), work)
    print(f"  measured: {measures}", flush=True)
    _write(log, {"step": trainer.step, "measures": measures})


def _write(log: Path, entry: dict[str, Any]) -> None:
    rounded = {
        key: round(value, 5) if isinstance(value, float) else value for key, value in entry.items()
    }
    with log.open("a") as file:
        file.write(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
        sys.exit()
    sys.exit("Interrupted. Start the command again to resume from the last saved state.")
