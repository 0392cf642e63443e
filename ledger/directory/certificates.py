"""TLS client certificates of subscriptions: what is accepted, and one function per query."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from ledger.database import Connection
from ledger.directory.rows import CertificateFacts, ClientCertificate
from ledger.errors import InvalidInput
from ledger.secrets import Keyring

PURPOSE = "private keys at rest"
CERTIFICATE, KEY = "client_certificate", "client_key"
LONGEST_PEM = 64 * 1024


def checked_certificate(
    certificate_pem: bytes, key_pem: bytes, now: datetime | None = None
) -> ClientCertificate:
    """Return the certificate, its chain behind it, with the key that belongs to it.

    Raises InvalidInput for what is not PEM, a key with a passphrase, two that do not match,
    and a certificate that has expired, begins later, or is for other uses (RFC 5280, 4.2.1.12).
    """
    chain, key = _chain(certificate_pem), _private_key(key_pem)
    first, moment = chain[0], now or datetime.now(UTC)
    if _public(first.public_key()) != _public(key.public_key()):
        raise InvalidInput(KEY, "expected the private key of the client certificate")
    if moment > first.not_valid_after_utc:
        raise InvalidInput(
            CERTIFICATE, f"expired at {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    if moment < first.not_valid_before_utc:
        begins = f"{first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise InvalidInput(CERTIFICATE, f"is not valid before {begins}")
    if not _is_for_clients(first):
        raise InvalidInput(CERTIFICATE, "is not meant for clients (extended key usage)")
    return ClientCertificate(
        fingerprint=first.fingerprint(SHA256()).hex(),
        subject=first.subject.rfc4514_string() or "(empty)",
        expires_at=first.not_valid_after_utc,
        certificate_pem="".join(one.public_bytes(Encoding.PEM).decode() for one in chain),
        private_key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _chain(pem: bytes) -> list[x509.Certificate]:
    if len(pem) > LONGEST_PEM:
        raise InvalidInput(CERTIFICATE, f"expected at most {LONGEST_PEM} bytes")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise InvalidInput(CERTIFICATE, "expected a certificate in PEM") from None


def _private_key(pem: bytes) -> Any:
    if len(pem) > LONGEST_PEM:
        raise InvalidInput(KEY, f"expected at most {LONGEST_PEM} bytes")
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise InvalidInput(KEY, "expected a private key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(KEY, "expected a private key in PEM") from None


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    any_use = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage or any_use in usage


def put_certificate(
    connection: Connection, subscription_id: UUID, given: ClientCertificate, keyring: Keyring
) -> None:
    """Give the subscription this certificate, in place of one that it had.

    The key is encrypted, and bound to subscription and certificate.
    """
    sealed = keyring.encrypt(
        PURPOSE, given.private_key_pem, _binding(subscription_id, given.fingerprint)
    )
    connection.execute(
        """
        INSERT INTO subscription_certificates (
            subscription_id, fingerprint, subject, expires_at, certificate_pem, private_key
        )
        VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (subscription_id) DO UPDATE
        SET fingerprint = excluded.fingerprint, subject = excluded.subject,
            expires_at = excluded.expires_at, certificate_pem = excluded.certificate_pem,
            private_key = excluded.private_key, added_at = clock_timestamp()
        """,
        (
            subscription_id,
            given.fingerprint,
            given.subject,
            given.expires_at,
            given.certificate_pem,
            sealed,
        ),
    )


def drop_certificate(connection: Connection, subscription_id: UUID) -> None:
    """Take the certificate and its key away, where there is one."""
    connection.execute(
        "DELETE FROM subscription_certificates WHERE subscription_id = %s", (subscription_id,)
    )


def find_certificate(
    connection: Connection, subscription_id: UUID, keyring: Keyring
) -> ClientCertificate | None:
    """Return the subscription's certificate with its key, decrypted, or None."""
    row = connection.execute(
        """
        SELECT fingerprint, subject, expires_at, certificate_pem, private_key
        FROM subscription_certificates WHERE subscription_id = %s
        """,
        (subscription_id,),
    ).fetchone()
    if row is None:
        return None
    binding = _binding(subscription_id, row["fingerprint"])
    opened = keyring.decrypt(PURPOSE, bytes(row.pop("private_key")), binding)
    return ClientCertificate(**row, private_key_pem=opened)


def list_certificates(
    connection: Connection, subscription_ids: list[UUID]
) -> dict[UUID, CertificateFacts]:
    """Return what may be shown of these subscriptions' certificates."""
    rows = connection.execute(
        """
        SELECT subscription_id, fingerprint, subject, expires_at
        FROM subscription_certificates WHERE subscription_id = ANY(%s)
        """,
        (subscription_ids,),
    ).fetchall()
    return {row.pop("subscription_id"): CertificateFacts(**row) for row in rows}


def _binding(subscription_id: UUID, fingerprint: str) -> bytes:
    return f"{subscription_id} {fingerprint}".encode()
