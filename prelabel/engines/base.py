"""What an engine is: preparation on the CPU, then batches through the model.

No torch here, so that everything above the engines can name these types without importing it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from prelabel.types import ImageRGB, RawDetections


class PreparedItem(Protocol):
    """One picture with one caption, resized and tokenised: what waits in the batch gate."""

    @property
    def bucket(self) -> Hashable:
        """Items of equal bucket (the resized height and width) may share a batch."""


ItemT = TypeVar("ItemT", bound=PreparedItem)


class Engine(Protocol[ItemT]):
    """A loaded checkpoint. Thread-safe for one `detect` beside any number of `prepare`.

    `runs_on`, where it has that, names its device and number format for the log.
    """

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[ItemT]:
        """Resize the picture and build its captions: one item per chunk of the phrases.

        Raises PromptError where a phrase has nothing to look for or does not fit a caption.
        """

    def detect(self, items: Sequence[ItemT]) -> list[RawDetections]:
        """Run the model once over items of one bucket: one result per item, in order.

        An item's result does not depend on its neighbours.
        """


AnyEngine = Engine[Any]

# Of cameras, telephones and screens, upright and lying, in pixels. Their resized sizes are those
# that a model meets most.
USUAL_PICTURES_HW = ((480, 640), (640, 480), (600, 900), (720, 1280), (1280, 720), (640, 640))


def warm_up(engine: AnyEngine) -> None:
    """Run each usual size once: a GPU's libraries load, choose and compile at the first pass."""
    for hw in USUAL_PICTURES_HW:
        engine.detect(engine.prepare(np.zeros((*hw, 3), dtype=np.uint8), ("object",)))
