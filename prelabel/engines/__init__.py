"""The engines: checkpoints that turn pictures and phrases into boxes. Torch stays in here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from prelabel.checkpoints.cards import ModelCard, check_installed
from prelabel.engines.base import AnyEngine, warm_up


class EngineLoader(Protocol):
    """How a detector comes to its engine; see `load_engine`."""

    def __call__(
        self,
        card: ModelCard,
        folder: Path,
        *,
        device: str,
        precision: str,
        cpu_threads: int | None = None,
    ) -> AnyEngine:
        """A loaded checkpoint."""


def load_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> AnyEngine:
    """Load the card's checkpoint from its folder. Touches no network.

    device: `auto`, `cpu` or `cuda`; precision: `auto`, `float32`, `bfloat16`, or `float64` (for
    tests); cpu_threads: to compute with, in the whole process; as it was if not given.
    Raises ModelError if files are missing or do not fit, DeviceError for a missing device.
    """
    check_installed(card, folder)
    # Here, because torch takes seconds to import and the edge of the application needs none of it.
    from prelabel.engines.device import keep_freed_memory, resolve_placement, use_cpu_threads

    placement = resolve_placement(device, precision)
    if placement.device.type == "cpu":
        keep_freed_memory()
    if cpu_threads is not None:
        use_cpu_threads(cpu_threads)
    engine: AnyEngine
    if card.engine == "groundingdino":
        from prelabel.engines.groundingdino.engine import load as load_groundingdino

        engine = load_groundingdino(card, folder, placement)
    else:
        from prelabel.engines.huggingface import load as load_huggingface

        engine = load_huggingface(card, folder, placement)
    if placement.device.type == "cuda":
        warm_up(engine)
    return engine
