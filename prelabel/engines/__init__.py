"""The engines: loaded checkpoints that turn pictures and phrases into boxes, and boxes into masks.

torch is imported in this package only.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from prelabel.checkpoints.cards import Card, ModelCard, SegmenterCard, check_installed
from prelabel.checkpoints.image_size import size_warning
from prelabel.engines.base import AnyEngine, SegmenterEngine, warm_up_segmenter

if TYPE_CHECKING:
    from prelabel.engines.device import Placement

logger = logging.getLogger(__name__)


class EngineLoader(Protocol):
    """The signature of `load_engine`; tests and benchmarks pass loaders of their own."""

    def __call__(
        self,
        card: ModelCard,
        folder: Path,
        *,
        device: str,
        precision: str,
        cpu_threads: int | None = None,
    ) -> AnyEngine:
        """Load the card's checkpoint."""


def load_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> AnyEngine:
    """Load a checkpoint from the local disk. Never touches the network.

    On a GPU, the first pass of a size sets up the libraries for it. They are not run ahead, so that
    a replica is ready soon; its smoke test runs the most frequent size.

    Args:
        card: The model card.
        folder: Folder of the checkpoint's files.
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `float32`, `float16`, `bfloat16`, or `float64` (for tests).
        cpu_threads: Threads of torch in the whole process; None leaves the number as it is.

    Raises:
        ModelError: Files are missing, damaged or do not fit each other.
        DeviceError: The device is missing, or its name or the precision is unknown.
    """
    placement = _place(card, folder, device, precision, cpu_threads)
    if warning := size_warning(card, folder):
        logger.warning(warning)
    engine: AnyEngine
    if card.engine == "groundingdino":
        from prelabel.engines.groundingdino.engine import load as load_groundingdino

        engine = load_groundingdino(card, folder, placement)
    else:
        from prelabel.engines.huggingface import load as load_huggingface

        engine = load_huggingface(card, folder, placement)
    return engine


def load_segmenter(
    card: SegmenterCard,
    folder: Path,
    *,
    device: str,
    precision: str,
    cpu_threads: int | None = None,
) -> SegmenterEngine:
    """Load a segmenter from the local disk. Never touches the network.

    On a GPU the engine is warmed up before it is returned.

    Args:
        card: The segmenter's card.
        folder: Folder of the checkpoint's files.
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `float32`, `float16`, `bfloat16`, or `float64` (for tests).
        cpu_threads: Threads of torch in the whole process; None leaves the number as it is.

    Raises:
        ModelError: Files are missing, damaged or do not fit each other.
        DeviceError: The device is missing, or its name or the precision is unknown.
    """
    # The masks of float16 were not measured, and large image encoders may exceed its range.
    placement = _place(card, folder, device, precision, cpu_threads, on_gpu="bfloat16")
    from prelabel.engines.segment_anything.engine import load as load_segment_anything

    # Items and encodings are opaque to callers: an engine gets those that it made itself.
    engine = cast("SegmenterEngine", load_segment_anything(card, folder, placement))
    if placement.device.type == "cuda":
        warm_up_segmenter(engine)
    return engine


def _place(
    card: Card,
    folder: Path,
    device: str,
    precision: str,
    cpu_threads: int | None,
    on_gpu: str = "float16",
) -> Placement:
    """Check the files of a checkpoint, choose its placement and apply settings of the process."""
    check_installed(card, folder)
    # Imported late because torch takes seconds to import, and processes that only need the types
    # of the engines, such as the ingress, never load one.
    from prelabel.engines.device import keep_freed_memory, resolve_placement, use_cpu_threads

    placement = resolve_placement(device, precision, on_gpu)
    if placement.device.type == "cpu":
        keep_freed_memory()
    if cpu_threads is not None:
        use_cpu_threads(cpu_threads)
    return placement
