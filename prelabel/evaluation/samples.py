"""The input of an evaluation: one picture with the boxes of people and of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from prelabel.types import Floats, Ints

NO_LABEL: Final = ""  # of a box that has none


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of one picture, from one source.

    Attributes:
        xyxy: float64 [N, 4] in pixels of the upright picture.
        labels: [N]; NO_LABEL for a box without a label.
        scores: float64 [N]; 1 for boxes of people.
        ids: [N] ids of the regions; None where a region has none.
    """

    xyxy: Floats
    labels: tuple[str, ...]
    scores: Floats
    ids: tuple[str | None, ...]

    @classmethod
    def of(
        cls,
        xyxy: Sequence[Sequence[float]] | Floats,
        labels: Sequence[str],
        scores: Sequence[float] | Floats | None = None,
        ids: Sequence[str | None] | None = None,
    ) -> Self:
        """Create boxes from lists. Scores are 1 and ids None where they are not given."""
        count = len(labels)
        return cls(
            np.asarray(xyxy, np.float64).reshape(count, 4),
            tuple(labels),
            np.ones(count) if scores is None else np.asarray(scores, np.float64).reshape(count),
            (None,) * count if ids is None else tuple(ids),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Ints | Sequence[int]) -> Boxes:
        """Return some of the boxes, in the order of `rows`."""
        index = np.asarray(rows, np.int64)
        return Boxes(
            self.xyxy[index],
            tuple(self.labels[row] for row in index),
            self.scores[index],
            tuple(self.ids[row] for row in index),
        )

    def rows_of(self, label: str) -> Ints:
        """Return the rows of the boxes with a label."""
        return np.flatnonzero([each == label for each in self.labels])

    def best_first(self) -> Boxes:
        """Return the boxes by falling score; equal scores keep their order."""
        return self.take(np.argsort(-self.scores, kind="stable"))

    def over(self, thresholds: Mapping[str, float]) -> Boxes:
        """Return the boxes whose score reaches the threshold of their label, 0 by default."""
        least = np.array([thresholds.get(label, 0.0) for label in self.labels])
        return self.take(np.flatnonzero(self.scores >= least))


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One picture of a task.

    Attributes:
        task: The task's id.
        item_index: The picture's index in a list of pictures, None for a single picture.
        uri: Address of the picture in the task.
        image_wh: Width and height in pixels; (0, 0) if no box tells them.
        truth: The boxes of people.
        predicted: The boxes of the model.
        corrected: The predicted boxes from which a person made the annotation; None if the
            annotation was made from none, or it is not known.
    """

    task: int
    item_index: int | None
    uri: str
    image_wh: tuple[int, int]
    truth: Boxes
    predicted: Boxes
    corrected: Boxes | None = None

    def over(self, thresholds: Mapping[str, float]) -> Sample:
        """Return the sample with the predicted boxes that reach the thresholds of their labels."""
        return replace(self, predicted=self.predicted.over(thresholds))


def labels_in(samples: Sequence[Sample], first: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the labels of all boxes: those of `first` that occur, then the others by name."""
    seen = {
        label
        for sample in samples
        for boxes in (sample.truth, sample.predicted)
        for label in boxes.labels
        if label != NO_LABEL
    }
    known = [label for label in dict.fromkeys(first) if label in seen]
    return (*known, *sorted(seen.difference(known)))
