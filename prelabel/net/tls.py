"""TLS verification: the trusted CAs are certifi's, the system store's and a company's own."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from prelabel.errors import PrelabelError

# File names by which OpenSSL looks up certificates in a folder; `openssl rehash` creates them.
HASHED_NAME: Final = re.compile(r"[0-9a-f]{8}\.\d+")
CERTIFICATE_SUFFIXES: Final = (".pem", ".crt", ".cer")
ADD_CA: Final = "If that is your company's CA, set SSL_CERT_FILE to a file with its certificate"

# OpenSSL's X509_V_ERR_ numbers.
_NOT_YET_VALID, _EXPIRED, _NAME_MISMATCH = 9, 10, (62, 64)
_UNKNOWN_ISSUER: Final = (2, 7, 18, 19, 20, 21)


class TrustError(PrelabelError):
    """A CA file or folder that an environment variable names cannot be used."""


@dataclass(frozen=True, slots=True)
class Trust:
    """CA certificates that are trusted in addition to certifi's bundle and the system store.

    Attributes:
        sources: Pairs of an environment variable and its value: a file or folder with certificates.
    """

    sources: tuple[tuple[str, str], ...] = ()


DEFAULT_TRUST: Final = Trust()


def tls_context(trust: Trust = DEFAULT_TRUST) -> ssl.SSLContext:
    """Return a context that verifies servers. Share it: loading the bundles takes about 30 ms.

    Raises TrustError if a file or folder does not exist or holds no certificate.
    """
    context = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
    _add_system_store(context)
    for variable, path in trust.sources:
        if variable == "SSL_CERT_DIR":
            _add_folders(context, variable, path.split(os.pathsep))
        elif Path(path).is_dir():
            _add_folders(context, variable, [path])
        else:
            _add_file(context, variable, Path(path))
    return context


def tls_fault(error: BaseException) -> str:
    """Return the cause of a TLS failure and its remedy, as a clause to follow the server's name.

    Returns an empty text for any other failure.
    """
    fault = _ssl_error(error)
    if fault is None:
        return ""
    code = getattr(fault, "verify_code", 0)
    if code == _EXPIRED:
        return "has a certificate that has expired. Have it renewed"
    if code == _NOT_YET_VALID:
        return "has a certificate that is not valid yet. Check this machine's clock"
    if code in _NAME_MISMATCH:
        return "has a certificate for another name. Use the name that its certificate has"
    if code in _UNKNOWN_ISSUER:
        return f"has a certificate whose issuer is not trusted here. {ADD_CA}"
    if fault.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return "does not speak https on this port. Write http:// if it is meant to be without TLS"
    return "failed the TLS handshake. Check its certificate"


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """Return the TLS error inside the exceptions that requests and urllib3 wrapped around it."""
    chain: list[object] = [error]
    for link in chain:
        if isinstance(link, ssl.SSLError):
            return link
        if isinstance(link, BaseException):
            causes = (link.__cause__, link.__context__, *link.args)
            chain += [cause for cause in causes if cause not in chain]
    return None


def _add_system_store(context: ssl.SSLContext) -> None:
    # These are OpenSSL's compiled-in paths. load_default_certs() would obey SSL_CERT_FILE instead.
    paths = ssl.get_default_verify_paths()
    if Path(paths.openssl_cafile).is_file():
        context.load_verify_locations(cafile=paths.openssl_cafile)
    if Path(paths.openssl_capath).is_dir():
        context.load_verify_locations(capath=paths.openssl_capath)


def _add_file(context: ssl.SSLContext, variable: str, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrustError(
            f"{variable} is {path}, which cannot be read ({error.strerror}). Set it to a file with "
            "certificates (PEM), or unset it."
        ) from None
    try:
        context.load_verify_locations(
            cadata=content.decode() if b"-----BEGIN" in content else content
        )
    except (ssl.SSLError, ValueError):
        raise TrustError(
            f"{variable} is {path}, which holds no certificate that can be read. Set it to a "
            "file with certificates (PEM), or unset it."
        ) from None


def _add_folders(context: ssl.SSLContext, variable: str, paths: list[str]) -> None:
    # A list, not any(): all folders are loaded, and at least one must hold certificates.
    if not [path for path in paths if _add_folder(context, variable, Path(path))]:
        raise TrustError(
            f"{variable} is {os.pathsep.join(paths)}, which holds no certificate. Set it to a "
            "folder with certificates (.pem or .crt), or unset it."
        )


def _add_folder(context: ssl.SSLContext, variable: str, path: Path) -> bool:
    """Load a folder's certificates, found by OpenSSL's hashed names or else by suffix.

    Returns True if the folder holds any.
    """
    entries = sorted(path.iterdir()) if path.is_dir() else []
    if any(HASHED_NAME.fullmatch(entry.name) for entry in entries):
        context.load_verify_locations(capath=path)
        return True
    files = [entry for entry in entries if entry.suffix in CERTIFICATE_SUFFIXES]
    for file in files:
        _add_file(context, variable, file)
    return bool(files)
