"""A certificate authority as companies have one, and the certificates that it signs."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)
PEM = serialization.Encoding.PEM


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Authority:
    """path: its own certificate, in a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"CA of {folder.name}")
        now = datetime.now(UTC)
        key_usage = x509.KeyUsage(*(False, False, False, False, False, True, True, False, False))
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / "company-ca.pem"
        self.path.write_bytes(self.certificate.public_bytes(PEM))

    def server(self, *names: str, begins: int = -1, ends: int = 1) -> ssl.SSLContext:
        """Return the TLS context of a server of these names.

        begins, ends: of its certificate, in days from now.
        """
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        names_of = x509.SubjectAlternativeName([_general_name(name) for name in names])
        signed = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * DAY)
            .not_valid_after(now + ends * DAY)
            .add_extension(names_of, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"server-{signed.serial_number}.pem"
        private = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(signed.public_bytes(PEM) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context
