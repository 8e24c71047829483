"""Agreement of people: the same pictures, annotated by several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from prelabel.evaluation.matching import match_picture
from prelabel.evaluation.samples import Boxes


@dataclass(frozen=True, slots=True)
class Agreement:
    """Likeness of the annotations of several people.

    Attributes:
        pictures: Pictures that several people annotated.
        f1: Mean over these pictures of the F1 between each two annotations, at IoU .5 and with the
            label; 1 for two that are empty. A model cannot be measured to be better than this.
    """

    pictures: int
    f1: float


def agreement_of(annotated: Sequence[Sequence[Boxes]]) -> Agreement | None:
    """Return the agreement; None if no picture has several annotations.

    Args:
        annotated: For each picture the boxes of each person.
    """
    shared = [
        [_f1(a, b) for a, b in combinations(people, 2)] for people in annotated if len(people) > 1
    ]
    if not shared:
        return None
    return Agreement(len(shared), sum(sum(each) / len(each) for each in shared) / len(shared))


def _f1(a: Boxes, b: Boxes) -> float:
    total = len(a) + len(b)
    return 2 * len(match_picture(a, b).found) / total if total else 1.0
