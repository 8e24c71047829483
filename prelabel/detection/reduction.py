"""The size at which a picture is decoded: not larger than the models can see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prelabel.detection.tiling import Tile

_SCALES = (8, 4, 2)  # that a JPEG decoder has
# Smaller pictures are decoded in a few milliseconds.
_LEAST_PIXELS = 2_000_000
# Pixels of the reduced picture by pixel of the model's input, along a side: the filter of the
# second reduction, with which the model was trained, still has some to average.
_SPARE = 1.5


@dataclass(frozen=True, slots=True)
class SeenSize:
    """A view of a picture, and the model's input that it becomes.

    Attributes:
        view_wh: Width and height of the view in pixels of the picture.
        input_wh: Width and height in pixels to which it is resized.
    """

    view_wh: tuple[int, int]
    input_wh: tuple[int, int]


def seen_sizes(
    views: Iterable[Tile], resized_hw: Callable[[tuple[int, int]], tuple[int, int]]
) -> Iterator[SeenSize]:
    """Yield the size of each view of a picture, and the size at which a model sees it.

    Args:
        views: The views.
        resized_hw: The engine's method of that name.
    """
    for view in views:
        width, height = view.wh
        input_height, input_width = resized_hw((height, width))
        yield SeenSize(view.wh, (input_width, input_height))


def reduction(image_wh: tuple[int, int], seen: Iterable[SeenSize]) -> int:
    """Return by how much the sides of a picture can be divided before a model loses by it.

    Args:
        image_wh: Width and height of the picture in pixels.
        seen: Everything that the models will see of it.

    Returns:
        1, 2, 4 or 8.
    """
    if image_wh[0] * image_wh[1] < _LEAST_PIXELS:
        return 1
    most = min(
        (
            view / (_SPARE * input_)
            for each in seen
            for view, input_ in zip(each.view_wh, each.input_wh, strict=True)
        ),
        default=1,
    )
    return next((scale for scale in _SCALES if scale <= most), 1)
