"""Calibration of a trained checkpoint: lowers the scores until absent phrases get no boxes.

`python -m training.calibrate FOLDER`. With the focal loss that finds most objects, objects that
only look similar score above the usual threshold. Calibration subtracts one number from all token
logits, so that the order of boxes, and with it AP, stays nearly the same.

A Grounding DINO has no bias on its token logits, which are dot products of queries and text
features. So the shift is a vector, found by least squares, whose product with all queries is nearly
constant. It is added to the bias of the text's last norm. The keys and values of the attention to
text are corrected by its product, so that only the logits change.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GroundingDinoForObjectDetection

from prelabel.checkpoints.cards import load_card
from prelabel.engines.base import AnyEngine
from prelabel.engines.preprocess import normalised
from training import WORK
from training.card import write_card
from training.evaluate import load, tally
from training.held_out import Scenes, load_scenes, measured_sets
from training.world import load_world

_SEED = 8_000_000  # of scenes; evaluation uses others
_SCENES = 200
_STEP = 0.25  # logits by which the scores are lowered at a time
_MAX_STEPS = 12
_RIDGE = 1e-3  # share of the mean variance: keeps the least squares solvable


def calibrate(folder: Path, work: Path, false_boxes: float) -> float:
    """Lower the scores of a checkpoint in place, and return by how many logits.

    Args:
        folder: Folder of the checkpoint with its card.
        work: Folder of the rendered icons.
        false_boxes: Most boxes per picture for prompts of absent objects, in drawing styles that
            training has seen.
    """
    world = load_world()
    scenes = load_scenes(measured_sets(world)["absent"], world, work, seed=_SEED)
    model = GroundingDinoForObjectDetection.from_pretrained(folder, dtype=torch.float32)
    direction = constant_direction(model, _engine(folder), scenes)
    for steps in range(_MAX_STEPS + 1):
        if steps:
            shift_logits(model, -_STEP * direction)
            save(model, folder)
        measured = tally(_engine(folder), scenes(_SCENES)).figures()["false_boxes"]
        print(f"  scores lowered by {steps * _STEP:.2f}: {measured:.2f} false boxes", flush=True)
        if measured <= false_boxes:
            break
    return steps * _STEP


def constant_direction(
    model: GroundingDinoForObjectDetection, engine: AnyEngine, scenes: Scenes
) -> torch.Tensor:
    """Return the vector [D] whose product with queries and proposals is nearest to 1.

    Args:
        model: The model whose queries and proposals are recorded.
        engine: An engine with the same checkpoint, which prepares the scenes.
        scenes: The scenes to run.
    """
    recorded: list[torch.Tensor] = []

    def record(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        recorded.append(output.detach().flatten(0, -2))

    inner: Any = model.model
    norms = (inner.decoder.layer_norm, inner.enc_output_norm)
    hooks = [norm.register_forward_hook(record) for norm in norms]
    try:
        for scene in scenes(_SCENES // 4):
            [item] = engine.prepare(scene.image, scene.phrases)
            with torch.inference_mode():
                model(
                    pixel_values=normalised(item.pixels[None]),
                    input_ids=torch.tensor([item.caption.ids]),
                )
    finally:
        for hook in hooks:
            hook.remove()
    queries = torch.cat(recorded).double()
    gram = queries.T @ queries / len(queries)
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    direction: torch.Tensor = torch.linalg.solve(gram + ridge, queries.mean(0))
    return direction.float()


@torch.no_grad()
def shift_logits(model: GroundingDinoForObjectDetection, shift: torch.Tensor) -> None:
    """Add a vector [D] to the text features that enter token logits, and to no others."""
    inner: Any = model.model
    inner.encoder.layers[-1].text_enhancer_layer.layer_norm_after.bias += shift
    for layer in inner.decoder.layers:
        for projection in (layer.encoder_attn_text.key, layer.encoder_attn_text.value):
            projection.bias -= projection.weight @ shift


def save(model: GroundingDinoForObjectDetection, folder: Path) -> None:
    """Write the weights in float16, and the card with their hash. The model stays float32."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.nn.Module.half(model)  # transformers' own `half` is not typed
    model.save_pretrained(folder)
    torch.nn.Module.float(model)
    model.load_state_dict(state)
    write_card(folder)


def _engine(folder: Path) -> AnyEngine:
    return load(load_card(str(folder / "demo.yaml")), folder, "huggingface")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="such as training/work/demo")
    parser.add_argument(
        "--false-boxes", type=float, default=0.15, help="most false boxes per picture"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the icons")
    arguments = parser.parse_args()
    calibrate(arguments.folder, arguments.work, arguments.false_boxes)
