"""Training of the demo segmenter: `make train-segmenter`.

Scenes are made on the fly from the seed and the step's number, so that a run that was killed
continues with the same batches. All output is in the work folder: icons, the state to resume from,
`segmenter.jsonl` with the curve, and `demo-segmenter/`, a folder to serve.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import SamModel

from training import WORK
from training.icons import IconError, icon_sets, load_sprites
from training.segmentation.batches import LOW, SegmenterBatch, SegmenterBatches
from training.segmentation.card import NAME, write_card
from training.segmentation.losses import mask_loss
from training.segmentation.model import (
    build_segmenter,
    image_size,
    load_segmenter,
    resized,
    save_segmenter,
)
from training.segmentation.recipe import SegmenterRecipe
from training.world import load_world

_MAX_GRADIENT = 5.0  # norm to which gradients are clipped
_DECAY = 1e-2
_MIN_MATRIX_SIDE = 16  # a parameter with a smaller side is a head or a table, and not for Muon
_LOG_EVERY = 20  # steps


class SegmenterTrainer:
    """The segmenter with its optimisers and its moving average.

    Args:
        recipe: The recipe.
        device: Device to train on.
        start: Folder of a checkpoint to start from, None for untrained weights.
        first: Step to start at.

    Attributes:
        step: Number of steps done.
        seconds: Seconds of training, including those before the run was resumed.
    """

    def __init__(
        self, recipe: SegmenterRecipe, device: torch.device, start: Path | None, first: int = 0
    ) -> None:
        self._recipe = recipe
        self._device = device
        self._first = first
        self.step = first
        self.seconds = 0.0
        self._average: dict[str, torch.Tensor] = {}
        size = recipe.stage(first).size
        self._use(load_segmenter(start, size) if start else build_segmenter(size, recipe.seed))

    def train_on(self, batch: SegmenterBatch) -> dict[str, float]:
        """Do one step. Returns the loss, its terms, and the norm of the gradient."""
        began = time.monotonic()
        stage = self._recipe.stage(self.step)
        if stage.size != image_size(self._model):
            average = self._averaged()
            self._use(resized(self._model, stage.size))
            # The weights are resampled with the average, whose values change at each step alike.
            self._average = {
                name: parameter.detach()
                for name, parameter in resized(average, stage.size).named_parameters()
            }
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._recipe.rate(self.step, self._first)
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self._device.type, torch.bfloat16):
            output = self._model(
                pixel_values=batch.pixels.to(self._device),
                multimask_output=False,
                **self._prompts(batch),
            )
        loss, terms = mask_loss(
            output.pred_masks[:, :, 0],
            output.iou_scores[:, :, 0],
            batch.masks.to(self._device),
            batch.valid.to(self._device),
            batch.boxes.to(self._device) / LOW,
        )
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_GRADIENT)
        if norm.isfinite():  # a rare overflow must not spoil the weights
            for optimiser in self._optimisers:
                optimiser.step()
        self.step += 1
        self._update_average()
        self.seconds += time.monotonic() - began
        return {"loss": float(loss.detach()), "gradient": float(norm), **terms}

    def save(self, path: Path) -> None:
        """Write the state. A run that is killed meanwhile keeps the state before."""
        state = {
            "recipe": repr(self._recipe),
            "first": self._first,
            "step": self.step,
            "seconds": self.seconds,
            "model": self._model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "average": self._average,
        }
        unfinished = path.with_suffix(".part")
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
        size = self._recipe.stage(max(0, state["step"] - 1)).size
        self._use(resized(self._model, size))
        self._model.load_state_dict(state["model"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self._average = state["average"]
        self._first, self.step, self.seconds = state["first"], state["step"], state["seconds"]
        return True

    def export(self, folder: Path) -> None:
        """Write the moving average of the weights as a checkpoint."""
        save_segmenter(self._averaged(), folder)

    def _averaged(self) -> SamModel:
        copy = resized(self._model, image_size(self._model))
        copy.load_state_dict(self._average, strict=False)  # buffers are not averaged
        return copy

    def _use(self, model: SamModel) -> None:
        torch.nn.Module.to(model, self._device)  # transformers' own `to` is not typed
        self._model = model
        self._average = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }
        self._optimisers = _optimisers(model)

    def _prompts(self, batch: SegmenterBatch) -> dict[str, torch.Tensor]:
        """Return boxes, clicks or both, by the step's number."""
        stage = self._recipe.stage(self.step)
        boxes = {"input_boxes": batch.boxes.to(self._device)}
        points = {
            "input_points": batch.points.to(self._device),
            "input_labels": batch.point_labels.to(self._device),
        }
        kind = random.Random(f"prompts {self._recipe.seed} {self.step}").random()
        if kind < stage.points:
            return points
        return boxes | points if kind < stage.points + stage.points_and_boxes else boxes

    def _update_average(self) -> None:
        """Move the average towards the weights, faster at first while it holds noise."""
        done = self.step - self._first
        keep = min(self._recipe.average, 1 - 1 / (done * 0.2 + 1))
        parameters = dict(self._model.named_parameters())
        torch._foreach_lerp_(
            [average.detach() for average in self._average.values()],
            [parameters[name].detach() for name in self._average],
            1 - keep,
        )


def _optimisers(model: SamModel) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of attention and feed-forward layers, and AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            wide = parameter.ndim == 2 and min(parameter.shape) >= _MIN_MATRIX_SIDE
            (matrices if wide and "embed" not in name else others).append(parameter)
    return [
        torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        # Updates are scaled to the size of AdamW's, so that one rate serves both.
        torch.optim.Muon(matrices, weight_decay=_DECAY, adjust_lr_fn="match_rms_adamw"),
    ]


def main() -> None:
    """Train and show the progress. A run can be interrupted and started again at any time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="full", help="full or tiny, of recipe.yaml")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of all output")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--start-from", type=Path, help="folder of a checkpoint: train the last stage only"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that make scenes")
    parser.add_argument(
        "--threads", type=int, help="threads that compute: fewer than cores on a busy machine"
    )
    arguments = parser.parse_args()
    recipe = SegmenterRecipe.read(arguments.recipe)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)  # denormal numbers slow a CPU down
    arguments.work.mkdir(parents=True, exist_ok=True)
    state = arguments.work / f"segmenter-{arguments.recipe}.pt"
    first = recipe.steps - recipe.stages[-1].steps if arguments.start_from else 0
    trainer = SegmenterTrainer(recipe, torch.device(arguments.device), arguments.start_from, first)
    if trainer.resume(state):
        print(f"Resuming at step {trainer.step} of {recipe.steps}.", flush=True)
    folder = arguments.work / NAME
    try:
        _train(trainer, recipe, arguments.work, state, folder, arguments.workers)
    except IconError as error:
        raise SystemExit(str(error)) from error
    card = folder / f"{NAME}.yaml"
    print(f"Done: {folder}. Serve it with `model: {{segmenter: {card}}}`.", flush=True)


def _train(
    trainer: SegmenterTrainer,
    recipe: SegmenterRecipe,
    work: Path,
    state: Path,
    folder: Path,
    workers: int,
) -> None:
    """Train to the end. Saves state and checkpoint, and logs the mean losses of every few steps."""
    world = load_world()
    has_things = any(stage.things for stage in recipe.stages)
    sprites = load_sprites(world, work / "icons", icon_sets("train") if has_things else [])
    batches = DataLoader(
        SegmenterBatches(recipe, world, sprites),
        batch_size=None,
        sampler=range(trainer.step, recipe.steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    collected: list[dict[str, float]] = []
    began = trainer.step
    seconds_before = trainer.seconds
    for batch in batches:
        collected.append(trainer.train_on(batch))
        if trainer.step % recipe.save_every == 0 or trainer.step == recipe.steps:
            trainer.save(state)
            trainer.export(folder)
            write_card(folder)
        if trainer.step % _LOG_EVERY == 0 or trainer.step == recipe.steps:
            mean = {
                name: sum(terms[name] for terms in collected) / len(collected)
                for name in collected[0]
            }
            pace = (trainer.seconds - seconds_before) / (trainer.step - began)
            print(
                f"step {trainer.step}/{recipe.steps}  loss {mean['loss']:.3f}  "
                f"iou {mean['iou']:.3f}  {trainer.seconds / 60:.1f} min, "
                f"about {pace * (recipe.steps - trainer.step) / 60:.0f} to go",
                flush=True,
            )
            with (work / "segmenter.jsonl").open("a") as log:
                entry = {"step": trainer.step, "minutes": trainer.seconds / 60} | mean
                log.write(json.dumps({key: round(value, 5) for key, value in entry.items()}) + "\n")
            collected.clear()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
        sys.exit()
    sys.exit("Interrupted. Start the command again to resume from the last saved state.")
