"""Apps and their signing keys: making a key pair, and one function per query."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from ledger.database import Connection
from ledger.directory.rows import App, PublicKey, SigningKey
from ledger.secrets import Keyring

PURPOSE = "private keys at rest"
RSA_BITS = 2048


def new_signing_key(app_id: UUID) -> SigningKey:
    """Make an RSA key pair for RS256. Takes about a tenth of a second."""
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    public_key = private_key.public_key()
    return SigningKey(
        kid=_thumbprint(public_key.public_numbers()),
        app_id=app_id,
        public_key_pem=public_key.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        ).decode(),
        private_key_pem=private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
    )


def _thumbprint(numbers: rsa.RSAPublicNumbers) -> str:
    """RFC 7638: the SHA-256 of the key's required members in their canonical form."""
    canonical = json.dumps(_members(numbers), sort_keys=True, separators=(",", ":")).encode()
    return _base64url(hashlib.sha256(canonical).digest())


def _members(numbers: rsa.RSAPublicNumbers) -> dict[str, str]:
    return {"e": _base64url_number(numbers.e), "kty": "RSA", "n": _base64url_number(numbers.n)}


def _base64url_number(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def insert_app(connection: Connection, app_id: UUID, name: str, scopes: list[str]) -> bool:
    """Insert the app; False where the id is taken."""
    cursor = connection.execute(
        """
        INSERT INTO apps (app_id, name, scopes) VALUES (%s, %s, %s)
        ON CONFLICT (app_id) DO NOTHING
        """,
        (app_id, name, scopes),
    )
    return cursor.rowcount == 1


def insert_signing_key(connection: Connection, key: SigningKey, keyring: Keyring) -> None:
    """Insert the key pair, its private half encrypted and bound to its kid."""
    sealed = keyring.encrypt(PURPOSE, key.private_key_pem, key.kid.encode())
    connection.execute(
        """
        INSERT INTO signing_keys (kid, app_id, algorithm, public_pem, private_key)
        VALUES (%s, %s, 'RS256', %s, %s)
        """,
        (key.kid, key.app_id, key.public_key_pem, sealed),
    )


def lock_app(connection: Connection, app_id: UUID) -> bool:
    """Keep rotations of one app apart until the transaction ends; False for an unknown app."""
    row = connection.execute(
        "SELECT app_id FROM apps WHERE app_id = %s FOR NO KEY UPDATE", (app_id,)
    ).fetchone()
    return row is not None


def find_app(connection: Connection, app_id: UUID) -> App | None:
    """Return the app, or None."""
    row = connection.execute(
        "SELECT app_id, name, scopes, created_at FROM apps WHERE app_id = %s", (app_id,)
    ).fetchone()
    return None if row is None else _app(row)


def list_apps(connection: Connection) -> list[App]:
    """Return every app, oldest first."""
    rows = connection.execute(
        "SELECT app_id, name, scopes, created_at FROM apps ORDER BY created_at, app_id"
    ).fetchall()
    return [_app(row) for row in rows]


def find_signing_key(connection: Connection, app_id: UUID, keyring: Keyring) -> SigningKey | None:
    """Return the app's newest key in use, decrypted, or None where there is no such app."""
    row = connection.execute(
        """
        SELECT kid, app_id, public_pem, private_key FROM signing_keys
        WHERE app_id = %s AND retired_at IS NULL ORDER BY created_at DESC LIMIT 1
        """,
        (app_id,),
    ).fetchone()
    if row is None:
        return None
    kid = str(row["kid"])
    return SigningKey(
        kid=kid,
        app_id=row["app_id"],
        public_key_pem=row["public_pem"],
        private_key_pem=keyring.decrypt(PURPOSE, bytes(row["private_key"]), kid.encode()),
    )


def retire_signing_keys(connection: Connection, app_id: UUID, overlap: timedelta) -> None:
    """End the use of the app's present keys; their public halves stay published for ``overlap``.

    An overlap never prolongs an earlier one.
    """
    connection.execute(
        """
        UPDATE signing_keys
        SET retired_at = coalesce(retired_at, clock_timestamp()),
            published_until = least(published_until, clock_timestamp() + %s)
        WHERE app_id = %s
        """,
        (overlap, app_id),
    )


def list_public_keys(connection: Connection, app_id: UUID | None = None) -> list[PublicKey]:
    """Return the published public keys of one app or of all, oldest first."""
    rows = connection.execute(
        """
        SELECT kid, app_id, public_pem AS public_key_pem, created_at, retired_at, published_until
        FROM signing_keys
        WHERE (%(app_id)s::uuid IS NULL OR app_id = %(app_id)s)
          AND (published_until IS NULL OR published_until > clock_timestamp())
        ORDER BY created_at, kid
        """,
        {"app_id": app_id},
    ).fetchall()
    return [PublicKey(**row) for row in rows]


def public_jwk(key: PublicKey) -> dict[str, str]:
    """Return the key as RFC 7517 has it, for ``/.well-known/jwks.json``."""
    public_key = load_pem_public_key(key.public_key_pem.encode())
    assert isinstance(public_key, rsa.RSAPublicKey)
    members = _members(public_key.public_numbers())
    return {**members, "kid": key.kid, "use": "sig", "alg": "RS256"}


def _app(row: dict[str, Any]) -> App:
    return App(**{**row, "scopes": frozenset(row["scopes"])})
