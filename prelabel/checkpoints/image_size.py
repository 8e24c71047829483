"""The size to which a checkpoint's own processor resizes pictures, beside that of its card."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from prelabel.checkpoints.cards import ImageSize, ModelCard

# Files of transformers; the second one has the image processor as a part.
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


class _ImageProcessor(BaseModel):
    size: ImageSize | None = None


class _Processor(_ImageProcessor):
    image_processor: _ImageProcessor | None = None


def size_warning(card: ModelCard, folder: Path) -> str | None:
    """Return a sentence if a processor's file beside the weights has another size than the card.

    The file need not be in the card's list. A file that cannot be read, or has no such size, is
    ignored.
    """
    for name in _PROCESSORS:
        size = _size_in(folder / name)
        if size is not None and size != card.image_size:
            return (
                f"{card.name}: the card resizes pictures to {_text(card.image_size)}, and {name} "
                f"to {_text(size)}. At another size than that of the training, a model can find "
                f"little or nothing. Set image_size of the card to {{shortest_edge: "
                f"{size.shortest_edge}, longest_edge: {size.longest_edge}}}, unless it differs on "
                "purpose."
            )
    return None


def _size_in(path: Path) -> ImageSize | None:
    try:
        processor = _Processor.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, ValidationError):
        return None
    part = processor.image_processor or processor
    return part.size


def _text(size: ImageSize) -> str:
    return f"{size.shortest_edge}/{size.longest_edge} pixels"
