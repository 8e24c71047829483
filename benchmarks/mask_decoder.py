"""The mask decoder beside that of transformers, at full size with random weights.

    python -m benchmarks.mask_decoder
    python -m benchmarks.mask_decoder --prompts 20 --threads 1

Prints milliseconds per box for each decoder: for masks of the whole picture, and for masks that end
at their box, of which only the cells below it are upsampled. The decoders take turns, and the
figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel
from transformers.models.sam.configuration_sam import SamVisionConfig

from benchmarks.measurement import interleaved, medians, seconds
from prelabel.engines.segment_anything.decoder import (
    FoldedDecoder,
    ImageTokens,
    LibraryDecoder,
    MaskDecoder,
)
from prelabel.engines.segment_anything.frames import CELLS_PER_TOKEN, Window

SIDE = 64  # image tokens along a side
CHANNELS = 256
BOX_CELLS = (60, 60, 110, 110)  # a fifth of the picture's side
CHUNK = 2  # boxes of a pass, as in prelabel/engines/segment_anything/engine.py


def models() -> dict[str, Any]:
    """Return models with mask decoders of full size. Image encoders take no part."""
    torch.manual_seed(0)
    vision = SamVisionConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
    found: dict[str, Any] = {
        "SAM (sam-vit-base, slimsam-77)": SamModel(SamConfig(vision_config=vision)),
        "SAM 2.1": Sam2Model(Sam2Config()),
    }
    with torch.no_grad():
        for model in found.values():
            for tensor in model.mask_decoder.parameters():
                if tensor.dim() > 1:  # transformers' own start is nearly zero
                    tensor.normal_(0, tensor[0].numel() ** -0.5)
            model.eval()
    return found


def picture(model: Any) -> ImageTokens:
    """Return the tokens of a picture of noise."""
    fine: tuple[torch.Tensor, ...] = ()
    if hasattr(model.mask_decoder, "conv_s0"):
        tokens = SIDE * SIDE
        fine = (
            torch.randn(tokens, 2, 2, CHANNELS // 4),
            torch.randn(tokens, 2, 2, 2, 2, CHANNELS // 8),
        )
    return ImageTokens(torch.randn(SIDE * SIDE, CHANNELS), fine)


@torch.inference_mode()
def decode(
    decoder: MaskDecoder, image: ImageTokens, prompts: torch.Tensor, window: Window
) -> list[torch.Tensor]:
    """Return logits of a window for each prompt, in chunks as the engine decodes them."""
    shared = decoder.share(image)
    found: list[torch.Tensor] = []
    for chunk in prompts.split(CHUNK):
        found += decoder(shared, chunk, [window] * len(chunk), best_of_all=False)[0]
    return found


def compare(model: Any, boxes: int, rounds: int) -> dict[str, float]:
    """Return milliseconds per box by decoder and extent, and the greatest difference of logits."""
    cells = SIDE * CELLS_PER_TOKEN
    image = picture(model)
    corners = torch.rand(1, boxes, 4) * 500 + torch.tensor([0, 0, 500, 500])
    prompts = model.get_prompt_embeddings(input_boxes=corners)[0][0]
    decoders = {"library": LibraryDecoder(model, SIDE), "folded": FoldedDecoder(model, SIDE)}
    extents = {"whole": (0, 0, cells, cells), "box": BOX_CELLS}
    works: dict[str, Callable[[], list[torch.Tensor]]] = {
        f"{name}, {extent}": partial(decode, decoder, image, prompts, window)
        for name, decoder in decoders.items()
        for extent, window in extents.items()
    }
    pairs = zip(works["library, whole"](), works["folded, whole"](), strict=True)
    difference = max(float((found - expected).abs().max()) for expected, found in pairs)
    timed = {name: partial(seconds, work) for name, work in works.items()}
    per_box = {
        name: 1000 * value / boxes for name, value in medians(interleaved(timed, rounds)).items()
    }
    return per_box | {"greatest difference": difference}


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--prompts", type=int, default=10, help="boxes of a picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name, model in models().items():
        print(f"{name}, {arguments.prompts} boxes, {arguments.threads} threads")
        for what, value in compare(model, arguments.prompts, arguments.rounds).items():
            unit = "" if what == "greatest difference" else " ms per box"
            print(f"  {what:20} {value:10.3g}{unit}")


if __name__ == "__main__":
    main()
