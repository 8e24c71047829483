"""The interface of an engine: preparation on the CPU, then batches through the model.

This module does not import torch, so that the layers above the engines can use these types without
importing it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from prelabel.types import ImageRGB, MaskLogits, MaskPrompt, RawDetections


class PreparedItem(Protocol):
    """One picture with one caption, resized and tokenised: an item in the batch gate's queue."""

    @property
    def bucket(self) -> Hashable:
        """Items with equal buckets (the resized height and width) may share a batch."""


ItemT = TypeVar("ItemT", bound=PreparedItem)


class Engine(Protocol[ItemT]):
    """A loaded checkpoint.

    Thread-safe for one call of `detect` beside any number of calls of `prepare`. An engine can have
    an attribute `runs_on`, a string with device and number format for the log.
    """

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width to which `prepare` resizes a picture of `image_hw`."""

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[ItemT]:
        """Resize the picture and build its captions: one item per chunk of the phrases.

        Raises:
            PromptError: A phrase has no words for the model, or does not fit a caption.
        """

    def detect(self, items: Sequence[ItemT]) -> list[RawDetections]:
        """Run the model once over items of one bucket: one result per item, in order.

        The result of an item does not depend on the other items of the batch.

        Raises:
            DetectionError: The model failed on these items.
        """


AnyEngine = Engine[Any]

# Height and width in pixels of the usual pictures of cameras, phones and screens, landscape and
# portrait. A model meets the sizes that these are resized to most often.
USUAL_PICTURES_HW = ((480, 640), (640, 480), (600, 900), (720, 1280), (1280, 720), (640, 640))


class Encoding(Protocol):
    """A picture as a segmenter's image encoder sees it, from which any number of masks follow."""

    @property
    def nbytes(self) -> int:
        """Size in bytes, on the device."""


class SegmenterEngine(Protocol):
    """A loaded segmenter: a picture is encoded once and then prompted any number of times.

    Thread-safe for one call of `encode` or `decode` beside any number of calls of `prepare`. An
    engine can have an attribute `runs_on`, a string with device and number format for the log.
    """

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width to which `prepare` resizes a picture of `image_hw`."""

    def prepare(self, image: ImageRGB) -> PreparedItem:
        """Resize a picture, or a part of one, to the model's input."""

    def encode(self, items: Sequence[PreparedItem]) -> list[Encoding]:
        """Encode pictures of one bucket: one encoding per item, in order.

        Raises:
            DetectionError: The model computed NaN or infinite numbers.
            DeviceMemoryError: The batch does not fit the GPU's memory.
        """

    def decode(
        self, jobs: Sequence[tuple[Encoding, Sequence[MaskPrompt]]]
    ) -> list[tuple[MaskLogits, ...]]:
        """Return the mask of each prompt, for several pictures at once.

        Prompts and results are in pixels of the prepared picture, whose view is the whole of it.
        The result of a prompt depends neither on the other prompts nor on the other pictures.

        Raises:
            DetectionError: The model computed NaN or infinite numbers.
            DeviceMemoryError: The batch does not fit the GPU's memory.
        """


def warm_up_segmenter(engine: SegmenterEngine) -> None:
    """Run one picture with each layout of prompts that is usual: a box, and one or two clicks."""
    image = np.zeros((*USUAL_PICTURES_HW[0], 3), dtype=np.uint8)
    [encoding] = engine.encode([engine.prepare(image)])
    click = (160.0, 120.0)
    prompts = (
        MaskPrompt(box_xyxy=(80.0, 60.0, 320.0, 240.0)),
        MaskPrompt(points_xy=(click,), points_inside=(True,)),
        MaskPrompt(points_xy=(click, click), points_inside=(True, False)),
    )
    engine.decode([(encoding, prompts)])
