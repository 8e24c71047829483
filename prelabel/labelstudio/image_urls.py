"""Label Studio's addresses for its own pictures, in the spellings that tasks have.

Label Studio writes them as it sees itself: under a prefix, by an external name, by another name of
loopback, or as the bare key of an upload. They all mean the same picture at LABEL_STUDIO_HOST,
which alone is asked and alone gets the token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from prelabel.net.origin import Origin, is_loopback

# What Label Studio writes for files of its own, relative to its address: uploads and local files,
# and cloud files that it resolves.
OWN_PATHS: Final = ("/data/", "/storage-data/", "/tasks/")
# Those of them, with their query, that no other server has: `/data/` alone is a usual folder.
UNMISTAKABLE: Final = re.compile(
    r"(?:/[^/?#]+)*?"
    r"(?P<own>/data/upload/\d+/[^?]+(?:\?.*)?"
    r"|/data/local-files/?\?d=.+"
    r"|/storage-data/uploaded/?\?filepath=.+"
    r"|/tasks/\d+/(?:presign|resolve)/?\?fileuri=.+)",
    re.DOTALL,
)
RAW_KEY: Final = re.compile(r"(?:data/)?(upload/\d+/[^?#]+)")
# Without user, backslash, escapes and spaces in the host, which parsers read differently.
ABSOLUTE: Final = re.compile(r"https?://[^/?#\\@%\s]+(/[^#]*)(#.*)?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """Where a picture of Label Studio is asked for, at LABEL_STUDIO_HOST.

    foreign: `host:port` in the task that is not that of LABEL_STUDIO_HOST, if there is one.
    """

    url: str
    foreign: str = ""


def own_path(path: str, studio: str) -> str | None:
    """The path (with query) below Label Studio's address that a path means; None for a foreign one.

    studio: LABEL_STUDIO_HOST. Its prefix may be there, be missing, or be another one.
    """
    prefix = urlsplit(studio).path
    inner = path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path
    if not inner.startswith(OWN_PATHS):
        return unmistakable(inner)
    return None if climbs(inner) else inner


def own_key(value: str) -> str | None:
    """The path of an upload that exports call by its bare key, such as upload/4/x.png."""
    found = RAW_KEY.fullmatch(value)
    return None if found is None or climbs(value) else f"/data/{found[1]}"


def own_url(url: str, studio: str) -> OwnAddress | None:
    """The address at Label Studio (without a slash at its end) that an absolute http(s) URL means.
    None for a picture that is not Label Studio's.
    """
    found = ABSOLUTE.fullmatch(url)
    if found is None:
        return None
    try:
        origin, own = Origin.of(url), Origin.of(studio)
    except ValueError:
        return None
    path, prefix = found[1], urlsplit(studio).path
    inner = path.removeprefix(prefix)
    is_below = path.startswith(f"{prefix}/") and inner.startswith(OWN_PATHS) and not climbs(inner)
    if is_below and origin == own:
        return OwnAddress(url)
    if is_below and _is_the_same_loopback(origin, own):
        return OwnAddress(studio + inner)
    elsewhere = unmistakable(path)
    if elsewhere is None:
        return None
    return OwnAddress(studio + elsewhere, "" if origin == own else str(origin))


def unmistakable(path: str) -> str | None:
    """The part of a path (with query) that is Label Studio's own, whatever host it is asked of."""
    path = path.partition("#")[0]
    found = UNMISTAKABLE.fullmatch(path)
    return None if found is None or climbs(path) else found["own"]


def is_unmistakable(url: str) -> bool:
    """Return whether an http(s) URL is one of Label Studio's pictures, whatever its host."""
    found = ABSOLUTE.fullmatch(url)
    return found is not None and unmistakable(found[1]) is not None


def with_scheme(address: str, studio: str | None) -> str:
    """`//host/path`, which a page completes by its own scheme, as the URL that it means."""
    scheme = urlsplit(studio).scheme if studio else "https"
    return f"{scheme}:{address}"


def climbs(path: str) -> bool:
    """Return whether a path has a `..`, however it is written, and so may end elsewhere."""
    path = path.partition("?")[0]
    for _ in range(3):  # a server in front of Label Studio may decode it once more
        path = unquote(path)
    return ".." in path.replace("\\", "/").split("/")


def _is_the_same_loopback(one: Origin, other: Origin) -> bool:
    """Return whether two origins differ only in the name of this machine's loopback."""
    same = (one.scheme, one.port) == (other.scheme, other.port)
    return same and is_loopback(one.host) and is_loopback(other.host)
