"""Processes that decode pictures beside the one that runs a model on a GPU.

Threads would not do: a thread waits for the interpreter's lock after each step, for up to 5 ms
while another thread runs Python, and the thread that launches the GPU's kernels waits for them in
turn. A picture that crashes its decoder ends a worker, and not the model's process.

The processes exchange pictures in memory files, which take one step of the interpreter each.
"""

from __future__ import annotations

import logging
import mmap
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from prelabel.errors import ImageDecodeError
from prelabel.images.decode import DecodedImage, ScaleOf, decode_reduced
from prelabel.images.decode_worker import (
    ERROR,
    ERROR_TAG,
    PIXELS,
    REQUEST,
    SCALE,
    SIZE,
    SIZE_TAG,
    receive,
    send_with_file,
)

logger = logging.getLogger(__name__)

Decode = Callable[[bytes, int, ScaleOf], DecodedImage]  # encoded, most pixels, scale

_MAX_DECODE_S = 60.0  # the largest picture that is allowed takes a few seconds
# Ray adds to the path of a replica, which a new process does not have by itself.
_PROGRAM = """
import sys
descriptor, *sys.path = sys.argv[1:]
from prelabel.images.decode_worker import serve_at
serve_at(int(descriptor))
"""


def decode_here(encoded: bytes, max_pixels: int, scale_of: ScaleOf) -> DecodedImage:
    """Decode a picture in this process; see `decode_reduced` for arguments and errors."""
    return decode_reduced(encoded, max_pixels=max_pixels, scale_of=scale_of)


class DecodePool:
    """Decodes pictures in a number of processes, each of which starts when it is first needed.

    Args:
        processes: How many pictures are decoded at a time. Further callers wait.
    """

    def __init__(self, processes: int) -> None:
        # The last one that was used comes first, so that no more are started than are needed.
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._workers = [_Worker() for _ in range(processes)]
        for worker in self._workers:
            self._free.put(worker)

    def __call__(self, encoded: bytes, max_pixels: int, scale_of: ScaleOf) -> DecodedImage:
        """Decode a picture; see `decode_reduced` for arguments and errors. Thread-safe.

        Raises:
            ImageDecodeError: Also if the picture ends its decoder, or takes it too long.
        """
        worker = self._free.get()
        try:
            return worker.decode(encoded, max_pixels, scale_of)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End the processes. They also end with this one."""
        for worker in self._workers:
            worker.stop()


class _Worker:
    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def decode(self, encoded: bytes, max_pixels: int, scale_of: ScaleOf) -> DecodedImage:
        connection = self._started()
        try:
            send_with_file(connection, REQUEST.pack(len(encoded), max_pixels), encoded)
            return _answer(connection, scale_of)
        except ImageDecodeError:
            raise
        except (EOFError, OSError) as error:
            self.stop()
            is_late = isinstance(error, TimeoutError)
            fault = f"takes longer than {_MAX_DECODE_S:.0f} s" if is_late else "ends the decoder"
            logger.warning("A picture of %d bytes %s.", len(encoded), fault)
            raise ImageDecodeError(
                f"The picture {fault}; save it anew in another program and upload that file."
            ) from error
        except BaseException:
            self.stop()  # it waits for an answer that it will not get
            raise

    def stop(self) -> None:
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
        self._process = self._connection = None

    def _started(self) -> socket.socket:
        if self._connection is not None:
            return self._connection
        ours, theirs = socket.socketpair()
        ours.settimeout(_MAX_DECODE_S)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # no input is part of the command
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._connection = ours
        return ours


def _answer(connection: socket.socket, scale_of: ScaleOf) -> DecodedImage:
    while True:
        header, descriptors, _, _ = socket.recv_fds(connection, PIXELS.size, 1)
        try:
            if header[:1] == SIZE_TAG:
                _, width, height = SIZE.unpack(_whole(connection, header, SIZE.size))
                connection.sendall(SCALE.pack(scale_of((width, height))))
                continue
            if header[:1] == ERROR_TAG:
                header = _whole(connection, header, ERROR.size)
                _, length = ERROR.unpack(header[: ERROR.size])
                message = _whole(connection, header, ERROR.size + length)[ERROR.size :]
                raise ImageDecodeError(message.decode())
            if not descriptors:
                raise EOFError("the worker has ended")
            fields = PIXELS.unpack(_whole(connection, header, PIXELS.size))
            return _mapped(descriptors[0], *fields[1:])
        finally:
            for descriptor in descriptors:
                with suppress(OSError):
                    os.close(descriptor)


def _whole(connection: socket.socket, begun: bytes, count: int) -> bytes:
    """Return the first `count` bytes of a message, of which some have been received."""
    missing = count - len(begun)
    return bytes(begun) if missing <= 0 else bytes(begun) + bytes(receive(connection, missing))


def _mapped(
    descriptor: int,
    height: int,
    width: int,
    full_width: int,
    full_height: int,
    scale: int,
    origin_x: int,
    origin_y: int,
) -> DecodedImage:
    """Return the picture in a memory file. The file lives as long as the array."""
    count = height * width * 3
    memory = mmap.mmap(descriptor, count, prot=mmap.PROT_READ)
    pixels = np.frombuffer(memory, dtype=np.uint8).reshape(height, width, 3)
    return DecodedImage(pixels, (full_width, full_height), scale, (origin_x, origin_y))
