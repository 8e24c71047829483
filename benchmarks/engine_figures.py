"""Speed and agreement of the engines on a CPU, compared with groundingdino-py unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import GroundingDinoForObjectDetection

from benchmarks.baseline import baseline
from benchmarks.measurement import interleaved, medians, seconds, settled
from benchmarks.models import PHRASES, write_full_size
from prelabel.checkpoints.cards import load_card, model_folder, text_encoder_folder
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from prelabel.engines.device import resolve_placement
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.engines.torch_engine import Batch, TorchEngine
from training import WORK
from training.evaluate import agreement
from training.held_out import load_scenes, measured_sets
from training.world import load_world

# Name: height, width and number of rounds.
_SIZES = {"640x640": (640, 640, 5), "800x1333": (800, 1333, 2)}
# Without oneDNN's bfloat16 support a pass takes ten times as long, so bfloat16 is not measured.
_HAS_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
_PRECISIONS = ("float32", "bfloat16") if _HAS_BFLOAT16 else ("float32",)
_SCENES = 500


def engine_figures(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield Swin-T's speed-ups over groundingdino-py, and how many of the demo's scenes differ."""
    cards = {name: write_full_size(folder, *edges[:2]) for name, edges in _SIZES.items()}
    with baseline(folder / "random.pth") as plain:
        for name, (height, width, rounds) in _SIZES.items():
            medians_s = _times(plain, cards[name], (height, width), rounds)
            for precision in _PRECISIONS:
                ratio = medians_s["groundingdino-py"] / medians_s[precision]
                yield f"cpu_engine_speedup_{name}_{precision}", ratio
            yield f"groundingdino_py_{name}_s", medians_s["groundingdino-py"]
    yield "cpu_engine_scenes_differing", _scenes_differing()


def _times(
    plain: Callable[[tuple[int, int]], float], card: Path, hw: tuple[int, int], rounds: int
) -> dict[str, float]:
    picture = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    works = {"groundingdino-py": partial(plain, hw)}
    for precision in _PRECISIONS:
        engine = _load(str(card), precision)
        items = engine.prepare(picture, PHRASES)
        assert items[0].bucket == hw
        works[precision] = partial(seconds, partial(engine.detect, items))
    return medians(interleaved({name: settled(work) for name, work in works.items()}, rounds))


def _load(name: str, precision: str) -> AnyEngine:
    card = load_card(name)
    return load_engine(card, model_folder(card, "models"), device="cpu", precision=precision)


class _LibraryNetwork:
    """The demo's weights in the unchanged model of transformers."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        model = GroundingDinoForObjectDetection.from_pretrained(folder, dtype=dtype)
        self._model = model.eval()
        self.num_queries: int = model.config.num_queries

    def __call__(
        self,
        batch: Batch,
        *,
        exact: bool = False,  # noqa: ARG002  # always is
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits [B, Q, T] and boxes [B, Q, 4], cxcywh in 0..1."""
        output = self._model(
            pixel_values=batch.pixels,
            input_ids=batch.token_ids,
            attention_mask=batch.token_mask.long(),
        )
        return output.logits, output.pred_boxes


def _scenes_differing() -> int:
    """Count the scenes in which the engine and the unchanged library model disagree.

    They disagree if labels differ or a box is off by more than half a pixel. Scenes that differ in
    float32, where rounding may be the cause, are compared again with the library in float64, which
    takes twice as long.
    """
    world = load_world()
    scenes = load_scenes(measured_sets(world)["seen"], world, WORK)(_SCENES)
    ours, plain = _load("demo", "auto"), _library("float32")
    disputed = [scene for scene in scenes if agreement(plain, ours, [scene]).differing]
    return agreement(_library("float64"), ours, disputed).differing


def _library(precision: str) -> AnyEngine:
    card = load_card("demo")
    folder = model_folder(card, "models")
    placement = resolve_placement("cpu", precision)
    return TorchEngine(
        _LibraryNetwork(folder, placement.weights),
        CaptionTokenizer.from_folder(text_encoder_folder(card, folder), card.max_text_tokens),
        card.image_size,
        placement,
    )
