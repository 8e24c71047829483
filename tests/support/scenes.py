"""Pictures that the demo model finds something in."""

import base64
import io
import itertools
from typing import Any

from PIL import Image, ImageDraw


def scene(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A red circle on the left and a blue square on the right."""
    image = Image.new("RGB", (640, 480), (150, 150, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse([60, 60, 220, 220], fill=(215, 30, 30))
    draw.rectangle([380, 200, 560, 400], fill=(35, 70, 220))
    return image.resize(size)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def data_uri(content: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


SCENE = data_uri(encoded(scene()))
_NUMBERS = itertools.count()


def fresh(count: int = 1, size: tuple[int, int] = (640, 480)) -> list[str]:
    """Return copies of the scene, each a new file, for which no result is cached."""
    picture = encoded(scene(size))
    return [data_uri(picture + b"%d" % next(_NUMBERS)) for _ in range(count)]
