"""Pictures and requests as Label Studio sends them; each picture a file that nobody has sent."""

from __future__ import annotations

import base64
import io
import itertools
import json

from PIL import Image

from benchmarks.models import PHRASES
from prelabel.settings.paths import PROJECT_ROOT

_NUMBERS = itertools.count()
_LABELS = "".join(f'<Label value="{phrase}"/>' for phrase in PHRASES)
CONFIG = (
    '<View><Number name="box_threshold" toName="image"/><Image name="image" value="$image"/>'
    f'<RectangleLabels name="label" toName="image">{_LABELS}</RectangleLabels></View>'
)


def picture(wh: tuple[int, int] = (640, 480)) -> bytes:
    """A JPEG of that size."""
    buffer = io.BytesIO()
    with Image.open(PROJECT_ROOT / "examples" / "demo" / "garden.jpg") as image:
        image.convert("RGB").resize(wh).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def unseen(encoded: bytes) -> bytes:
    """The same picture, another file: decoders stop before the number at its end."""
    return encoded + b"%d" % next(_NUMBERS)


def request(*pictures: bytes, threshold: float | None = None) -> bytes:
    """A predict request of a task for each picture."""
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


def requests_for(clients: int, each: int, encoded: bytes) -> list[list[bytes]]:
    """Bodies of one unseen picture, for each client."""
    return [[request(unseen(encoded)) for _ in range(each)] for _ in range(clients)]
