"""Label Studio's addresses for its own pictures, in the spellings that tasks contain.

Label Studio writes the addresses as it sees itself: under a path prefix, by an external host name,
by another name of loopback, or as the bare key of an upload. All of them denote one picture at
LABEL_STUDIO_HOST, the only address that is sent the token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from prelabel.net.origin import Origin, is_loopback

# Paths of Label Studio's files, relative to its address: uploads and local files, proxied files,
# and cloud files that it presigns.
_STUDIO_PATHS: Final = ("/data/", "/storage-data/", "/tasks/")
# Those of them, with their query, that no other server has: `/data/` alone is a common folder.
_UNMISTAKABLE: Final = re.compile(
    r"(?:/[^/?#]+)*?"
    r"(?P<own>/data/upload/\d+/[^?]+(?:\?.*)?"
    r"|/data/local-files/?\?d=.+"
    r"|/storage-data/uploaded/?\?filepath=.+"
    r"|/tasks/\d+/(?:presign|resolve)/?\?fileuri=.+)",
    re.DOTALL,
)
_UPLOAD_KEY: Final = re.compile(r"(?:data/)?(upload/\d+/[^?#]+)")
# The host has no user, backslash, escape or space, because URL parsers disagree about these.
_ABSOLUTE_URL: Final = re.compile(
    r"https?://[^/?#\\@%\s]+(/[^#]*)(#.*)?", re.IGNORECASE | re.DOTALL
)
# A reverse proxy in front of Label Studio may decode a path once more than Label Studio does.
_MOST_DECODINGS: Final = 3


@dataclass(frozen=True, slots=True)
class StudioURL:
    """The URL of one of Label Studio's pictures, at LABEL_STUDIO_HOST.

    foreign_host: `host:port` in the task if it is not that of LABEL_STUDIO_HOST; else "".
    """

    url: str
    foreign_host: str = ""


def studio_path(path: str, studio: str) -> str | None:
    """Return the path, with its query, relative to Label Studio's address.

    Args:
        path: A path without a host. It may have LABEL_STUDIO_HOST's prefix, another one, or none.
        studio: LABEL_STUDIO_HOST.

    Returns:
        None if the path is not one of Label Studio's pictures.
    """
    prefix = urlsplit(studio).path
    inner = path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path
    if not inner.startswith(_STUDIO_PATHS):
        return unmistakable_path(inner)
    return None if has_parent_segment(inner) else inner


def path_of_key(value: str) -> str | None:
    """Return the path of an upload's bare key (upload/4/x.png, as exports have it), or None."""
    match = _UPLOAD_KEY.fullmatch(value)
    return None if match is None or has_parent_segment(value) else f"/data/{match[1]}"


def studio_url(url: str, studio: str) -> StudioURL | None:
    """Return the URL at Label Studio that an absolute http(s) URL of a task denotes.

    Args:
        url: The URL in the task.
        studio: LABEL_STUDIO_HOST, without a slash at its end.

    Returns:
        None if the URL is not one of Label Studio's pictures.
    """
    match = _ABSOLUTE_URL.fullmatch(url)
    if match is None:
        return None
    try:
        origin, studio_origin = Origin.of(url), Origin.of(studio)
    except ValueError:
        return None
    path, prefix = match[1], urlsplit(studio).path
    inner = path.removeprefix(prefix)
    is_below = path.startswith(f"{prefix}/") and inner.startswith(_STUDIO_PATHS)
    if is_below and not has_parent_segment(inner):
        if origin == studio_origin:
            return StudioURL(url)
        if _is_same_loopback(origin, studio_origin):
            return StudioURL(studio + inner)
    own_path = unmistakable_path(path)
    if own_path is None:
        return None
    return StudioURL(studio + own_path, "" if origin == studio_origin else str(origin))


def unmistakable_path(path: str) -> str | None:
    """Return the part of a path, with its query, that only Label Studio has; None without one."""
    path = path.partition("#")[0]
    match = _UNMISTAKABLE.fullmatch(path)
    return None if match is None or has_parent_segment(path) else match["own"]


def is_unmistakable(url: str) -> bool:
    """Return True if an http(s) URL is one of Label Studio's pictures, whatever its host."""
    match = _ABSOLUTE_URL.fullmatch(url)
    return match is not None and unmistakable_path(match[1]) is not None


def with_scheme(address: str, studio: str | None) -> str:
    """Return `//host/path` with the scheme of Label Studio's page, as a browser completes it."""
    scheme = urlsplit(studio).scheme if studio else "https"
    return f"{scheme}:{address}"


def has_parent_segment(path: str) -> bool:
    """Return True if a path has a `..` segment in any spelling: a server may leave its folder."""
    path = path.partition("?")[0]
    for _ in range(_MOST_DECODINGS):
        path = unquote(path)
    return ".." in path.replace("\\", "/").split("/")


def _is_same_loopback(one: Origin, other: Origin) -> bool:
    """Return True if two origins differ only in their names of this machine's loopback."""
    has_same_port = (one.scheme, one.port) == (other.scheme, other.port)
    return has_same_port and is_loopback(one.host) and is_loopback(other.host)
