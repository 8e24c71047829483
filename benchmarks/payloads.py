"""Images and predict requests as Label Studio sends them. Every request carries a new image file,
so that no cache of the service answers it.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.models import PHRASES
from prelabel.settings.paths import PROJECT_ROOT

_SERIAL_NUMBERS = itertools.count()
_LABELS = "".join(f'<Label value="{phrase}"/>' for phrase in PHRASES)
CONFIG = (
    '<View><Number name="box_threshold" toName="image"/><Image name="image" value="$image"/>'
    f'<RectangleLabels name="label" toName="image">{_LABELS}</RectangleLabels></View>'
)
MASKS_CONFIG = CONFIG.replace(
    "</View>", f'<BrushLabels name="mask" toName="image">{_LABELS}</BrushLabels></View>'
)


def picture(wh: tuple[int, int] = (640, 480)) -> bytes:
    """Return a JPEG of the given width and height, pixels."""
    buffer = io.BytesIO()
    with Image.open(PROJECT_ROOT / "examples" / "demo" / "garden.jpg") as image:
        image.convert("RGB").resize(wh).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def photograph(wh: tuple[int, int]) -> bytes:
    """Return a JPEG with the noise of a camera: 2.7 MB for 4000 x 3000 pixels."""
    with Image.open(PROJECT_ROOT / "examples" / "demo" / "garden.jpg") as image:
        smooth = np.asarray(image.convert("RGB").resize(wh, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, 6, (wh[1], wh[0], 1))
    buffer = io.BytesIO()
    Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def unique_copy(encoded: bytes) -> bytes:
    """Return a file with the same pixels and a different digest.

    A serial number is appended; decoders stop before it.
    """
    return encoded + b"%d" % next(_SERIAL_NUMBERS)


def predict_body(*pictures: bytes, threshold: float | None = None, config: str = CONFIG) -> bytes:
    """Return the body of a predict request with one task per picture."""
    tasks = [
        {"id": i, "data": {"image": f"data:image/jpeg;base64,{base64.b64encode(each).decode()}"}}
        for i, each in enumerate(pictures)
    ]
    number = {
        "type": "number",
        "from_name": "box_threshold",
        "to_name": "image",
        "value": {"number": threshold},
    }
    return _body(tasks, config, None if threshold is None else [number])


def click_body(encoded: bytes, at_pct: tuple[float, float]) -> bytes:
    """Return the body of a click on a picture, which asks for a mask and its box."""
    click = {
        "type": "keypointlabels",
        "from_name": "click",
        "to_name": "image",
        "is_positive": True,
        "value": {"x": at_pct[0], "y": at_pct[1], "width": 0.2, "keypointlabels": [PHRASES[0]]},
    }
    address = f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
    return _body([{"id": 1, "data": {"image": address}}], MASKS_CONFIG, [click])


def _body(tasks: list[dict[str, Any]], config: str, context: list[Any] | None) -> bytes:
    body = {
        "tasks": tasks,
        "label_config": config,
        "project": "1.1",
        "params": {"context": None if context is None else {"result": context}},
    }
    return json.dumps(body).encode()


def client_bodies(clients: int, count: int, encoded: bytes) -> list[list[bytes]]:
    """Return `count` bodies for each client, each with one unique copy of the picture."""
    return [[predict_body(unique_copy(encoded)) for _ in range(count)] for _ in range(clients)]
