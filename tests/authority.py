"""A certificate authority for tests: certificates for servers and clients, good and bad."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    def files(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Written down: certificate and key."""
        paths = directory / f"{name}.crt", directory / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
        return paths


class Authority:
    """Issues certificates; its own, by which they are trusted, stands in ``file``."""

    def __init__(self, directory: Path, name: str = "Authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        mine = self._signed(
            self._name, self._key.public_key(), DAY, None, x509.BasicConstraints(True, 0)
        )
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(mine.public_bytes(Encoding.PEM))

    def issue(
        self, name: str, use: Any = ExtendedKeyUsageOID.CLIENT_AUTH, lasts: timedelta = DAY
    ) -> Issued:
        """A certificate for 127.0.0.1; one that ``lasts`` less than nothing has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([use])
        certificate = self._signed(_name(name), key.public_key(), lasts, usage)
        return Issued(
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def server_context(self) -> ssl.SSLContext:
        """TLS for a server that demands a certificate of this authority from its clients."""
        issued = self.issue("receiver", ExtendedKeyUsageOID.SERVER_AUTH)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.file)
        context.load_cert_chain(*issued.files(self._directory, "receiver"))
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _signed(
        self, subject: x509.Name, public_key: Any, lasts: timedelta, *extensions: Any
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        place = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + lasts)
            .add_extension(x509.SubjectAlternativeName([place]), critical=False)
        )
        for extension in extensions:
            if extension is not None:
                builder = builder.add_extension(extension, critical=True)
        return builder.sign(self._key, SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
