"""The markers of a JPEG: how many parts it has, and whether only its end marker is missing."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from prelabel.errors import ImageDecodeError

START: Final = b"\xff\xd8"
END: Final = b"\xff\xd9"

# Every scan of a progressive JPEG costs a pass over all its pixels and can be ten bytes long; and
# every marker, an object. Cameras and programs write some ten scans, and some hundred markers.
MAX_SCANS: Final = 100
MAX_MARKERS: Final = 10_000
# But those that stand for themselves: within a scan (stuffing, restarts) and padding.
_MARKER: Final = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")
# The decoder passes over others, in a scan, without looking for a length behind them.
_FIRST_WITH_LENGTH: Final = b"\xc0"
_SCAN: Final = b"\xda"
_END: Final = b"\xd9"
_RESTART_INTERVAL: Final = b"\xdd"
_COEFFICIENTS: Final = 64

# Bits without structure and without 0xFF. The first ones differ from each other, and from the
# zeros that the decoder takes at the end, so that they cannot all end a block: in many pictures
# two zeros do.
_NOISE: Final = tuple(
    first + hashlib.shake_256(first).digest(256).replace(b"\xff", b"\x55")
    for first in (b"\x55", b"\xaa")
)


@dataclass(slots=True)
class _Parts:
    """Facts that the markers up to the picture's end state.

    owed: component to the coefficients that are not there in full precision; scan: where the last
    scan's data begins, 0 where another marker came after it; restarts: whether its data has
    restart markers; ended: whether the picture has its end marker.
    """

    owed: dict[int, set[int]] = field(default_factory=dict)
    scan: int = 0
    restarts: bool = False
    ended: bool = False


def close(encoded: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The JPEG with an end marker, and probes: the same pixels must come of them.

    Webcams and interrupted copies leave the end marker out, and browsers show such pictures. The
    decoder takes an end marker anywhere, and fills what is missing with gray without a word. So
    whether something is missing is found by more decoding: in the probes noise stands before the
    end marker, and a whole picture does not depend on that. A JPEG that has its end marker is
    returned as it is, without probes.

    Raises ImageDecodeError for a JPEG that lacks more than its end marker where that can be seen
    without decoding, and for one of more parts than are made in good faith.
    """
    parts = _read(encoded)
    if parts.ended:
        return encoded, ()
    body = _without_padding(encoded)
    if not 0 < parts.scan < len(body) or not parts.owed or any(parts.owed.values()):
        raise ImageDecodeError("The picture is damaged or cut off; upload it again.")
    starts = [b""]
    if parts.restarts:
        # Where a restart is due, the decoder looks for its marker and passes over noise.
        passed = len(_RESTART.findall(body, parts.scan))
        starts.append(bytes([0xFF, 0xD0 + passed % 8]))
    return body + END, tuple(body + start + noise + END for start in starts for noise in _NOISE)


def _without_padding(encoded: bytes) -> bytes:
    """Without zeros that a file was filled up with, and without half an end marker.

    A single zero is data, with which gray pictures often end.
    """
    body = encoded.rstrip(b"\0")
    if len(encoded) - len(body) == 1:
        body = encoded
    return body.rstrip(b"\xff")


def _read(encoded: bytes) -> _Parts:
    """Read the markers of a JPEG's first picture, as its decoder will."""
    parts = _Parts()
    markers = scans = 0
    place = len(START)
    while (found := _MARKER.search(encoded, place)) and found[1] != _END:
        markers += 1
        scans += found[1] == _SCAN
        if scans > MAX_SCANS or markers > MAX_MARKERS:
            raise ImageDecodeError(
                "The picture is a JPEG of far more parts than cameras and programs write; "
                "save it again."
            )
        place = found.end()
        if found[1] >= _FIRST_WITH_LENGTH:
            length = int.from_bytes(encoded[place : place + 2])
            _note(parts, found[1], encoded[place + 2 : place + length])
            place += length
            parts.scan = place if found[1] == _SCAN else 0
    parts.ended = found is not None
    return parts


def _note(parts: _Parts, marker: bytes, content: bytes) -> None:
    """Components of a frame header, and what a scan brings of them (ITU T.81, B.2.2 and B.2.3)."""
    if marker in b"\xc0\xc1\xc2":
        parts.owed = {component: set(range(_COEFFICIENTS)) for component in content[6::3]}
    elif marker == _RESTART_INTERVAL:
        parts.restarts = any(content)
    elif marker == _SCAN and content:
        count = content[0]
        first, last, precision = (content[1 + 2 * count :] + bytes(3))[:3]
        if precision & 15 == 0:
            for component in content[1 : 1 + 2 * count : 2]:
                parts.owed.get(component, set()).difference_update(range(first, last + 1))
