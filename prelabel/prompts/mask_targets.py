"""Control tags that have a label -> the targets of its masks, one for each shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prelabel.labelstudio.labels import Label, RegionControl
from prelabel.types import MaskShape, MaskTarget


def mask_targets(
    labelled: Iterable[tuple[RegionControl, Label | None]],
    min_score: Callable[[RegionControl, Label | None], float],
) -> tuple[MaskTarget, ...]:
    """Return one target for each shape of masks: the first control tag that draws it.

    Args:
        labelled: The control tags, each with its own label; None for masks without a label.
        min_score: Returns the lowest score of a box whose mask a tag draws.
    """
    targets: dict[MaskShape, MaskTarget] = {}
    for control, label in labelled:
        for shape, shape_name in control.shapes.items():
            if shape != "rectangle" and shape not in targets:
                value = label.value if label else None
                score = min_score(control, label)
                targets[shape] = MaskTarget(shape, control.from_name, value, score, shape_name)
    return tuple(targets.values())
