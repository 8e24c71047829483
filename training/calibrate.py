"""Lowers a trained checkpoint's scores until prompts in vain stay without boxes.

`python -m training.calibrate FOLDER`. The focal loss that finds most objects leaves what merely
looks alike above the usual threshold. One number is taken from all token logits; the order of
boxes, and so AP, stays nearly as it is.

A Grounding DINO has no bias on its token logits, which are dot products of queries and text. It is
written into the text's last norm: a vector whose product with queries is nearly constant (by least
squares) and, so that nothing else notices, out of keys and values of the attention to text again.
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
from training.evaluate import Scenes, load, load_scenes, measured_sets, tally
from training.world import load_world

_SEED = 8_000_000  # other scenes than those that measure
_SCENES = 200
_STEP = 0.25  # of logits
_MOST_STEPS = 12
_RIDGE = 1e-3


def calibrate(folder: Path, work: Path, false_boxes: float) -> float:
    """Shift the scores in the checkpoint of `folder` until prompts in vain give at most so many
    boxes a picture, in styles that training has seen. Returns the shift, in logits.
    """
    world = load_world()
    scenes = load_scenes(measured_sets(world)["absent"], world, work, seed=_SEED)
    model = GroundingDinoForObjectDetection.from_pretrained(folder, dtype=torch.float32)
    direction = constant_direction(model, _engine(folder), scenes)
    for steps in range(_MOST_STEPS + 1):
        if steps:
            shift_logits(model, -_STEP * direction)
            save(model, folder)
        found = tally(_engine(folder), scenes(_SCENES)).figures()["false_boxes"]
        print(f"  scores lowered by {steps * _STEP:.2f}: {found:.2f} false boxes", flush=True)
        if found <= false_boxes:
            break
    return steps * _STEP


def constant_direction(
    model: GroundingDinoForObjectDetection, engine: AnyEngine, scenes: Scenes
) -> torch.Tensor:
    """The vector [D] whose product with queries and proposals is nearest to 1.

    engine: of the same checkpoint; it prepares the scenes.
    """
    seen: list[torch.Tensor] = []

    def note(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        seen.append(output.detach().flatten(0, -2))

    inner: Any = model.model
    hooks = [norm.register_forward_hook(note) for norm in (inner.decoder.layer_norm,)]
    hooks.append(inner.enc_output_norm.register_forward_hook(note))
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
    queries = torch.cat(seen).double()
    gram = queries.T @ queries / len(queries)
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    direction: torch.Tensor = torch.linalg.solve(gram + ridge, queries.mean(0))
    return direction.float()


@torch.no_grad()
def shift_logits(model: GroundingDinoForObjectDetection, shift: torch.Tensor) -> None:
    """Add a vector [D] to all text features, for token logits alone."""
    inner: Any = model.model
    inner.encoder.layers[-1].text_enhancer_layer.layer_norm_after.bias += shift
    for layer in inner.decoder.layers:
        for projection in (layer.encoder_attn_text.key, layer.encoder_attn_text.value):
            projection.bias -= projection.weight @ shift


def save(model: GroundingDinoForObjectDetection, folder: Path) -> None:
    """Write the weights in float16, and the card with their hash."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.nn.Module.half(model)  # transformers' own is not typed
    model.save_pretrained(folder)
    torch.nn.Module.float(model)
    model.load_state_dict(state)
    write_card(folder)


def _engine(folder: Path) -> AnyEngine:
    return load(load_card(str(folder / "demo.yaml")), folder, "huggingface")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="such as training/work/demo")
    parser.add_argument("--false-boxes", type=float, default=0.15, help="a picture, at most")
    parser.add_argument("--work", type=Path, default=WORK, help="where the icons are kept")
    arguments = parser.parse_args()
    calibrate(arguments.folder, arguments.work, arguments.false_boxes)
