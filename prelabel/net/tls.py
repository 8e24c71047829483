"""Certificates that are believed: certifi's list, the system's store, and a company's own CA."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from prelabel.errors import PrelabelError

# As OpenSSL finds the certificates of a folder: `openssl rehash` makes these names.
HASHED_NAME: Final = re.compile(r"[0-9a-f]{8}\.\d+")
CERTIFICATE_SUFFIXES: Final = (".pem", ".crt", ".cer")
ADD_CA: Final = "If that is your company's CA, set SSL_CERT_FILE to a file with its certificate"

# OpenSSL's X509_V_ERR_ numbers.
_NOT_YET, _EXPIRED, _OTHER_NAME = 9, 10, (62, 64)
_UNKNOWN_ISSUER: Final = (2, 7, 18, 19, 20, 21)


class TrustError(PrelabelError):
    """Certificates that an environment variable names cannot be used."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Certificates that are believed beside certifi's list and the system's store.

    sources: names of environment variables, with the file or folder that each gives.
    """

    sources: tuple[tuple[str, str], ...] = ()


USUAL: Final = Trust()


def tls_context(trust: Trust = USUAL) -> ssl.SSLContext:
    """A context that verifies servers. Takes some 30 ms: make one, and share it.

    Raises TrustError for a file or folder that does not exist or holds no certificate.
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
    """Describe the fault of a server's certificate, to follow the server's name. Empty
    where TLS is not what failed.
    """
    fault = _ssl_error(error)
    if fault is None:
        return ""
    code = getattr(fault, "verify_code", 0)
    if code == _EXPIRED:
        return "has a certificate that has expired. Have it renewed"
    if code == _NOT_YET:
        return "has a certificate that is not valid yet. Check this machine's clock"
    if code in _OTHER_NAME:
        return "has a certificate for another name. Use the name that its certificate has"
    if code in _UNKNOWN_ISSUER:
        return f"has a certificate whose issuer is not known here. {ADD_CA}"
    if fault.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return "does not speak https at this port. Write http:// if it is meant to be without TLS"
    return "makes no trusted TLS connection. Check its certificate"


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS behind those that libraries have wrapped around it."""
    behind: list[object] = [error]
    for each in behind:
        if isinstance(each, ssl.SSLError):
            return each
        if isinstance(each, BaseException):
            causes = (each.__cause__, each.__context__, *each.args)
            behind += [cause for cause in causes if cause not in behind]
    return None


def _add_system_store(context: ssl.SSLContext) -> None:
    """Where OpenSSL was built to look; load_default_certs() would obey SSL_CERT_FILE instead."""
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
            f"{variable} is {path}, which holds no certificate that can be read. Set it to a file "
            "with certificates (PEM), or unset it."
        ) from None


def _add_folders(context: ssl.SSLContext, variable: str, paths: list[str]) -> None:
    """Folders of which one at least has certificates."""
    if not [path for path in paths if _add_folder(context, variable, Path(path))]:
        raise TrustError(
            f"{variable} is {os.pathsep.join(paths)}, where no certificate is. Set it to a folder "
            "with certificates (.pem or .crt), or unset it."
        )


def _add_folder(context: ssl.SSLContext, variable: str, path: Path) -> bool:
    """Return whether the folder has certificates, by OpenSSL's names or else by their suffixes."""
    entries = sorted(path.iterdir()) if path.is_dir() else []
    if any(HASHED_NAME.fullmatch(entry.name) for entry in entries):
        context.load_verify_locations(capath=path)
        return True
    files = [entry for entry in entries if entry.suffix in CERTIFICATE_SUFFIXES]
    for file in files:
        _add_file(context, variable, file)
    return bool(files)
