"""Generated projects: boxes of people, and those of a model that errs at known rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prelabel.evaluation.samples import Boxes, Sample
from prelabel.types import Floats

WH = (640, 480)


@dataclass(frozen=True)
class Errors:
    """Rates of a model's errors.

    missed, mislabelled: of the boxes of people; false: boxes for each of them that find nothing;
    shift: standard deviation of the edges, of the box's size; doubled: boxes that are there twice.
    """

    missed: float = 0.15
    mislabelled: float = 0.05
    false: float = 0.3
    shift: float = 0.06
    doubled: float = 0.0


def generated(
    pictures: int,
    labels: Sequence[str],
    seed: int,
    errors: Errors | None = None,
    *,
    most: int = 8,
    empty: float = 0.1,
    decimals: int = 4,
) -> list[Sample]:
    """Make the pictures of a project.

    Args:
        pictures: Their number.
        labels: The labels.
        seed: Another seed makes other pictures.
        errors: The model's errors.
        most: Most boxes of a picture.
        empty: Share of pictures without boxes.
        decimals: Of the scores; few make equal scores.
    """
    rng = np.random.default_rng(seed)
    rates = errors or Errors()
    return [_picture(rng, i + 1, labels, rates, most, empty, decimals) for i in range(pictures)]


def _picture(
    rng: np.random.Generator,
    task: int,
    labels: Sequence[str],
    errors: Errors,
    most: int,
    empty: float,
    decimals: int,
) -> Sample:
    count = 0 if rng.random() < empty else int(rng.integers(1, most + 1))
    boxes = [_box(rng) for _ in range(count)]
    names = [labels[int(rng.integers(len(labels)))] for _ in range(count)]
    found: list[tuple[Floats, str, float]] = []
    for box, name in zip(boxes, names, strict=True):
        if rng.random() >= errors.missed:
            size = np.array([box[2] - box[0], box[3] - box[1]] * 2)
            label = name
            if rng.random() < errors.mislabelled:
                label = labels[int(rng.integers(len(labels)))]
            for _ in range(1 + (rng.random() < errors.doubled)):
                moved = box + rng.normal(0, errors.shift, 4) * size
                found.append((_ordered(moved), label, rng.beta(5, 2)))
        if rng.random() < errors.false:
            found.append((_box(rng), labels[int(rng.integers(len(labels)))], rng.beta(2, 5)))
    return Sample(
        task,
        None,
        f"/data/upload/1/{task}.png",
        WH,
        Boxes.of(np.array(boxes), names),
        Boxes.of(
            np.array([box for box, _, _ in found]),
            [label for _, label, _ in found],
            np.round([score for _, _, score in found], decimals),
        ).best_first(),
    )


def _box(rng: np.random.Generator) -> Floats:
    wh = np.exp(rng.uniform(np.log(12), np.log(250), 2))
    x, y = rng.uniform(0, 1, 2) * (np.array(WH) - wh)
    return np.round(np.array([x, y, x + wh[0], y + wh[1]]), 2)


def _ordered(box: Floats) -> Floats:
    return np.array([*np.minimum(box[:2], box[2:] - 1), *np.maximum(box[2:], box[:2] + 1)])
