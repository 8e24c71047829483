from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from prelabel.masks.bitmask import bitmask_data_url, bitmask_png
from prelabel.masks.runs import runs_of_mask
from prelabel.types import Masks

random = np.random.default_rng(5)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((5, 7), dtype=bool),
        np.ones((5, 7), dtype=bool),
        np.ones((1, 1), dtype=bool),
        np.eye(16, dtype=bool),
        np.pad(np.ones((3, 5), dtype=bool), ((2, 4), (11, 3))),
        random.random((40, 33)) < 0.5,
        random.random((33, 64)) < 0.02,
    ],
)
def test_pillow_reads_black_on_transparent(mask: Masks) -> None:
    height, width = mask.shape
    runs = runs_of_mask(mask, (0, 0), (width, height))
    with Image.open(io.BytesIO(bitmask_png(runs, (width, height)))) as picture:
        assert (picture.mode, picture.size) == ("P", (width, height))
        picture.verify()
    with Image.open(io.BytesIO(bitmask_png(runs, (width, height)))) as picture:
        rgba = np.asarray(picture.convert("RGBA"))
    np.testing.assert_array_equal(rgba[..., 3], mask * np.uint8(255))
    assert not rgba[..., :3].any()


def test_a_data_url_holds_the_file() -> None:
    runs = np.array([[3, 9]])
    scheme, _, data = bitmask_data_url(runs, (4, 4)).partition(",")
    assert scheme == "data:image/png;base64"
    assert base64.b64decode(data) == bitmask_png(runs, (4, 4))
