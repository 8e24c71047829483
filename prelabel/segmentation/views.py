"""Views: the part of a picture in which each prompt is segmented.

The segmenter reads every view at the same size, so that an object is finer in a smaller view.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prelabel.boxes import clip_xyxy
from prelabel.detection.pictures import PicturePart
from prelabel.detection.tiling import Tile, Tiling
from prelabel.types import MaskLogits, MaskPrompt

# A box must lie in a view with this share of its size around it, which the model needs to see.
_MARGIN = 0.1
_WIDE = 1.5  # pictures with a larger ratio of their sides have square views
_SQUARE_OVERLAP = 0.4  # share of its side that a square view has in common with the next one
_MAX_SQUARES = 64


@dataclass(frozen=True, slots=True)
class ViewPrompt:
    """A prompt, and the view of the picture in which it is segmented.

    Attributes:
        row: Index of the prompt among those of the picture.
        prompt: The prompt inside the picture, in pixels of the picture.
        view: The part of the picture that the model sees.
    """

    row: int
    prompt: MaskPrompt
    view: Tile

    def within(self, part: PicturePart) -> MaskPrompt:
        """Return the prompt in pixels of the view's part of the picture, at the part's size."""
        left, top, scale = part.region.left, part.region.top, part.scale
        box, clip = (
            None if each is None else tuple(((np.array(each) - (left, top) * 2) / scale).tolist())
            for each in (self.prompt.box_xyxy, self.prompt.clip_xyxy)
        )
        points = tuple(((x - left) / scale, (y - top) / scale) for x, y in self.prompt.points_xy)
        return MaskPrompt(box, points, self.prompt.points_inside, clip)

    def in_picture(self, mask: MaskLogits, part: PicturePart) -> MaskLogits:
        """Convert the prompt's mask from pixels of the part to pixels of the picture."""
        region = part.region
        return replace(
            mask,
            view_xyxy=(region.left, region.top, region.right, region.bottom),
            clip_xyxy=self.prompt.clip_xyxy,
        )


@dataclass(frozen=True, slots=True)
class ViewRule:
    """The rule by which the view of a prompt is chosen.

    Attributes:
        tiling: The tiles of large pictures.
        square: Wide and high pictures also have square views (the card's `square_views`).
        box_margin: How far a mask may reach beyond its box, by the box's width and height.
    """

    tiling: Tiling
    square: bool
    box_margin: float

    def by_view(
        self, prompts: Sequence[MaskPrompt], image_wh: tuple[int, int]
    ) -> dict[Tile, list[ViewPrompt]]:
        """Return the prompts of each view that has any.

        A box belongs to the smallest view that holds it and a margin around it. A click belongs to
        the whole picture, because it says nothing about the object's size.

        Args:
            prompts: Prompts in pixels of the picture.
            image_wh: Width and height of the picture in pixels.
        """
        views = self.views(image_wh)
        chosen: defaultdict[Tile, list[ViewPrompt]] = defaultdict(list)
        for row, prompt in enumerate(prompts):
            within = clipped(prompt, image_wh, self.box_margin)
            view = _view_of(within, views)
            chosen[view].append(ViewPrompt(row, within, view))
        return dict(chosen)

    def views(self, image_wh: tuple[int, int]) -> tuple[Tile, ...]:
        """Return the whole picture as the first view, then its square views and its tiles."""
        views = self.tiling.views(image_wh)
        if not self.square or max(image_wh) <= _WIDE * min(image_wh):
            return views
        squares = Tiling(min(image_wh), _SQUARE_OVERLAP, _MAX_SQUARES).views(image_wh)
        return (*squares, *views[1:])


def clipped(prompt: MaskPrompt, image_wh: tuple[int, int], box_margin: float) -> MaskPrompt:
    """Return a prompt inside the picture, whose mask ends a margin around its box.

    Args:
        prompt: The prompt, in pixels of the picture.
        image_wh: Width and height of the picture.
        box_margin: The margin as a share of the box's width and height.
    """
    if prompt.box_xyxy is None:
        return prompt
    box = clip_xyxy(np.array([prompt.box_xyxy], np.float64), image_wh)[0]
    margin = box_margin * np.tile(box[2:] - box[:2], 2) * (-1, -1, 1, 1)
    clip = clip_xyxy((box + margin)[None], image_wh)[0]
    return replace(prompt, box_xyxy=tuple(box.tolist()), clip_xyxy=tuple(clip.tolist()))


def _view_of(prompt: MaskPrompt, views: Sequence[Tile]) -> Tile:
    """Return the smallest view that holds a box and a margin around it; else the whole picture."""
    if prompt.box_xyxy is None:
        return views[0]
    left, top, right, bottom = prompt.box_xyxy
    image_w, image_h = views[0].wh
    grow_x, grow_y = _MARGIN * (right - left), _MARGIN * (bottom - top)
    left, right = max(0, left - grow_x), min(image_w, right + grow_x)
    top, bottom = max(0, top - grow_y), min(image_h, bottom + grow_y)
    holding = [
        view
        for view in views
        if view.left <= left and view.top <= top and view.right >= right and view.bottom >= bottom
    ]
    return min(holding, key=lambda view: view.wh[0] * view.wh[1])
