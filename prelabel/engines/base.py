"""What an engine is: preparation on the CPU, then batches through the model.

No torch here, so that everything above the engines can name these types without importing it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar

from prelabel.types import ImageRGB, RawDetections


class PreparedItem(Protocol):
    """One picture with one caption, resized and tokenised: what waits in the batch gate."""

    @property
    def bucket(self) -> Hashable:
        """Items of equal bucket (the resized height and width) may share a batch."""


ItemT = TypeVar("ItemT", bound=PreparedItem)


class Engine(Protocol[ItemT]):
    """A loaded checkpoint. Thread-safe for one `detect` beside any number of `prepare`."""

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[ItemT]:
        """Resize the picture and build its captions: one item per chunk of the phrases.

        Raises PromptError where a phrase has nothing to look for or does not fit a caption.
        """

    def detect(self, items: Sequence[ItemT]) -> list[RawDetections]:
        """Run the model once over items of one bucket: one result per item, in order.

        An item's result does not depend on its neighbours.
        """


AnyEngine = Engine[Any]
