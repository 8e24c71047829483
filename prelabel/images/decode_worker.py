"""A process that decodes pictures for another one, which it hears from by a Unix socket.

`decode_pool.py` has the other end. For each picture the parent sends `REQUEST`
with a memory file that holds the picture's file. The worker answers with the picture's size, gets
the scale at which it shall decode, and answers with the pixels, in another memory file, or with an
error's message. It ends with the socket.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

import numpy as np

from prelabel.errors import ImageDecodeError
from prelabel.images.decode import DecodedImage, decode_reduced

REQUEST: Final = struct.Struct("=QQ")  # bytes of the file, most pixels
SIZE: Final = struct.Struct("=cII")  # SIZE_TAG, width and height of the upright picture
SCALE: Final = struct.Struct("=B")
# PIXELS_TAG, height and width of the pixels, width and height of the picture, scale, origin x and y
PIXELS: Final = struct.Struct("=cIIIIBii")
ERROR: Final = struct.Struct("=cI")  # ERROR_TAG, bytes of the message
SIZE_TAG: Final = b"S"
PIXELS_TAG: Final = b"P"
ERROR_TAG: Final = b"E"


def receive(connection: socket.socket, count: int) -> bytearray:
    """Return exactly `count` bytes.

    Raises:
        EOFError: The other process has ended.
    """
    received = bytearray(count)
    view, done = memoryview(received), 0
    while done < count:
        more = connection.recv_into(view[done:])
        if more == 0:
            raise EOFError("the other process has ended")
        done += more
    return received


def serve(connection: socket.socket) -> None:
    """Decode pictures until the parent closes the socket."""
    while True:
        try:
            header, [memory], _, _ = socket.recv_fds(connection, REQUEST.size, 1)
            length, max_pixels = REQUEST.unpack(header)
        except (ValueError, OSError):  # the parent has closed the socket, or has ended
            return
        with os.fdopen(memory, "rb") as file:
            encoded = file.read(length)
        try:
            image = decode_reduced(
                encoded, max_pixels=max_pixels, scale_of=lambda wh: _ask(connection, wh)
            )
        except ImageDecodeError as error:
            message = str(error).encode()
            connection.sendall(ERROR.pack(ERROR_TAG, len(message)) + message)
        else:
            _send(connection, image)


def _ask(connection: socket.socket, wh: tuple[int, int]) -> int:
    connection.sendall(SIZE.pack(SIZE_TAG, *wh))
    [scale] = SCALE.unpack(receive(connection, SCALE.size))
    return int(scale)


def _send(connection: socket.socket, image: DecodedImage) -> None:
    pixels = np.ascontiguousarray(image.pixels)
    height, width = pixels.shape[:2]
    header = PIXELS.pack(PIXELS_TAG, height, width, *image.wh, image.scale, *image.origin_xy)
    send_with_file(connection, header, pixels.data.cast("B"))


def send_with_file(connection: socket.socket, header: bytes, content: bytes | memoryview) -> None:
    """Send a message with a memory file of that content, from its start."""
    memory = os.memfd_create("prelabel-picture")
    try:
        done = 0
        while done < len(content):
            done += os.pwrite(memory, content[done:] if done else content, done)
        socket.send_fds(connection, [header], [memory])
    finally:
        os.close(memory)


def serve_at(descriptor: int) -> None:
    """Serve at the socket with a file descriptor."""
    serve(socket.socket(fileno=descriptor))
