"""Client certificates as TLS uses them: a context each, made once and kept in memory only."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Protocol
from uuid import UUID

from cachetools import LRUCache

REMEMBERED = 1000


class Certificate(Protocol):
    """A subscription's certificate as the directory hands it out: PEM, decrypted."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def expires_at(self) -> datetime: ...

    @property
    def certificate_pem(self) -> str: ...

    @property
    def private_key_pem(self) -> bytes: ...


class Certificates(Protocol):
    """Where client certificates come from; the directory is one."""

    def client_certificate(self, subscription_id: UUID) -> Certificate | None:
        """The subscription's certificate with its key, None where it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A certificate that is ready for use."""

    fingerprint: str
    expires_at: datetime
    context: ssl.SSLContext

    @property
    def problem(self) -> str | None:
        """Why it cannot be used now."""
        if datetime.now(UTC) <= self.expires_at:
            return None
        return f"the client certificate expired at {self.expires_at:%Y-%m-%d %H:%M} UTC"


class CertificateRack:
    """Contexts by subscription. Safe from any thread."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._lock = Lock()
        self._loaded: LRUCache[UUID, Loaded] = LRUCache(REMEMBERED)

    def remembered(self, subscription_id: UUID, fingerprint: str | None) -> Loaded | None:
        """The certificate with this fingerprint if it is at hand: no waiting."""
        with self._lock:
            loaded = self._loaded.get(subscription_id)
        return loaded if loaded is not None and loaded.fingerprint == fingerprint else None

    def fetch(self, subscription_id: UUID) -> Loaded | None:
        """The certificate from the directory; None where it was taken away.

        Blocking. Raises what the directory raises, and ssl.SSLError for one that OpenSSL
        does not take.
        """
        certificate = self._certificates.client_certificate(subscription_id)
        if certificate is None:
            return None
        pem = certificate.certificate_pem.encode() + certificate.private_key_pem
        loaded = Loaded(certificate.fingerprint, certificate.expires_at, _context(pem))
        with self._lock:
            self._loaded[subscription_id] = loaded
        return loaded


def _context(pem: bytes) -> ssl.SSLContext:
    """A context that verifies servers as usual and shows this certificate.

    OpenSSL takes keys from files only, so the key gets one that no disk ever holds.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    memory = os.memfd_create("client certificate", os.MFD_CLOEXEC)
    try:
        os.write(memory, pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return context
