"""JPEG files without an end marker, and JPEG files of too many parts: checks on the markers.

Marker codes and segments are those of ITU T.81, annex B.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from prelabel.errors import ImageDecodeError

START: Final = b"\xff\xd8"
END: Final = b"\xff\xd9"

# Each scan of a progressive JPEG costs a pass over all pixels although it can be ten bytes long,
# and each marker costs an object. Cameras and programs write about ten scans and some hundred
# markers.
MAX_SCANS: Final = 100
MAX_MARKERS: Final = 10_000
# Without the codes that have no segment: stuffed bytes and restarts in a scan, and padding.
_MARKER: Final = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")
# In a scan, the decoder skips lower codes without reading a length after them.
_FIRST_WITH_LENGTH: Final = b"\xc0"
_FRAME_HEADERS: Final = b"\xc0\xc1\xc2"  # baseline, extended sequential, progressive
_SCAN: Final = b"\xda"
_END: Final = b"\xd9"
_RESTART_INTERVAL: Final = b"\xdd"
_COEFFICIENTS: Final = 64  # of a block of 8 x 8 pixels

# Bits without structure and without 0xFF. Where data is missing, the decoder assumes zeros, and in
# many pictures two zeros end a block. The two noises begin with different bits, so that not both
# can end a block.
_NOISE: Final = tuple(
    first + hashlib.shake_256(first).digest(256).replace(b"\xff", b"\x55")
    for first in (b"\x55", b"\xaa")
)


@dataclass(slots=True)
class _Structure:
    """Facts that the markers up to the picture's end state.

    Attributes:
        missing: Component to the coefficients that no scan has brought in full precision.
        last_scan: Offset of the last scan's data; 0 if another marker follows that scan.
        has_restarts: The scans' data has restart markers.
        has_end: The end marker is there.
    """

    missing: dict[int, set[int]] = field(default_factory=dict)
    last_scan: int = 0
    has_restarts: bool = False
    has_end: bool = False


def with_end_marker(encoded: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the JPEG with an end marker, and probes that must decode to the same pixels.

    Webcams and interrupted copies leave the end marker out, and browsers show such pictures. The
    decoder accepts an end marker anywhere and silently fills missing data with grey. So missing
    data is found by decoding again: the probes, two or four files, have noise before the end
    marker, which does not change the pixels of a complete picture. A JPEG that has its end marker
    is returned as it is, without probes.

    Raises:
        ImageDecodeError: More than the end marker is missing, as far as the markers tell, or the
            file has more parts than cameras and programs write.
    """
    structure = _read_markers(encoded)
    if structure.has_end:
        return encoded, ()
    body = _without_padding(encoded)
    has_scan = 0 < structure.last_scan < len(body)
    if not has_scan or not structure.missing or any(structure.missing.values()):
        raise ImageDecodeError("The picture is damaged or cut off; upload it again.")
    starts = [b""]
    if structure.has_restarts:
        # Where a restart is due, the decoder searches for its marker and skips the noise. A probe
        # with the next restart marker makes it read the noise.
        restarts = len(_RESTART.findall(body, structure.last_scan))
        starts.append(bytes([0xFF, 0xD0 + restarts % 8]))
    return body + END, tuple(body + start + noise + END for start in starts for noise in _NOISE)


def _without_padding(encoded: bytes) -> bytes:
    """Return the bytes without trailing zeros and without half an end marker.

    A single zero is data, with which gray pictures often end.
    """
    body = encoded.rstrip(b"\0")
    if len(encoded) - len(body) == 1:
        body = encoded
    return body.rstrip(b"\xff")


def _read_markers(encoded: bytes) -> _Structure:
    """Read the markers of a JPEG's first picture in the way of its decoder."""
    structure = _Structure()
    markers = scans = 0
    position = len(START)
    while (match := _MARKER.search(encoded, position)) and match[1] != _END:
        markers += 1
        scans += match[1] == _SCAN
        if scans > MAX_SCANS or markers > MAX_MARKERS:
            raise ImageDecodeError(
                "The picture is a JPEG of far more parts than cameras and programs write; "
                "save it again."
            )
        position = match.end()
        if match[1] >= _FIRST_WITH_LENGTH:
            length = int.from_bytes(encoded[position : position + 2])
            _record_segment(structure, match[1], encoded[position + 2 : position + length])
            position += length
            structure.last_scan = position if match[1] == _SCAN else 0
    structure.has_end = match is not None
    return structure


def _record_segment(structure: _Structure, marker: bytes, content: bytes) -> None:
    """Record the components of a frame header, or the coefficients that a scan brings of them.

    ITU T.81, B.2.2 and B.2.3.
    """
    if marker in _FRAME_HEADERS:
        structure.missing = {component: set(range(_COEFFICIENTS)) for component in content[6::3]}
    elif marker == _RESTART_INTERVAL:
        structure.has_restarts = any(content)
    elif marker == _SCAN and content:
        count = content[0]
        first, last, precision = (content[1 + 2 * count :] + bytes(3))[:3]
        if precision & 15 == 0:  # the last bit of these coefficients
            for component in content[1 : 1 + 2 * count : 2]:
                structure.missing.get(component, set()).difference_update(range(first, last + 1))
