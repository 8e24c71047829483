"""Images and predict requests as Label Studio sends them. Every request carries a new image file,
so that no cache of the service answers it.
"""

from __future__ import annotations

import base64
import io
import itertools
import json

from PIL import Image

from benchmarks.models import PHRASES
from prelabel.settings.paths import PROJECT_ROOT

_SERIAL_NUMBERS = itertools.count()
_LABELS = "".join(f'<Label value="{phrase}"/>' for phrase in PHRASES)
CONFIG = (
    '<View><Number name="box_threshold" toName="image"/><Image name="image" value="$image"/>'
    f'<RectangleLabels name="label" toName="image">{_LABELS}</RectangleLabels></View>'
)


def picture(wh: tuple[int, int] = (640, 480)) -> bytes:
    """Return a JPEG of the given width and height, pixels."""
    buffer = io.BytesIO()
    with Image.open(PROJECT_ROOT / "examples" / "demo" / "garden.jpg") as image:
        image.convert("RGB").resize(wh).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def unique_copy(encoded: bytes) -> bytes:
    """Return a file with the same pixels and a different digest.

    A serial number is appended; decoders stop before it.
    """
    return encoded + b"%d" % next(_SERIAL_NUMBERS)


def predict_body(*pictures: bytes, threshold: float | None = None) -> bytes:
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
    context = None if threshold is None else {"result": [number]}
    body = {
        "tasks": tasks,
        "label_config": CONFIG,
        "project": "1.1",
        "params": {"context": context},
    }
    return json.dumps(body).encode()


def client_bodies(clients: int, count: int, encoded: bytes) -> list[list[bytes]]:
    """Return `count` bodies for each client, each with one unique copy of the picture."""
    return [[predict_body(unique_copy(encoded)) for _ in range(count)] for _ in range(clients)]
