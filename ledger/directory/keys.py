"""API keys: their form, and one function per query."""

from __future__ import annotations

import re
import secrets
from typing import Any
from uuid import UUID

from ledger.database import Connection
from ledger.directory.rows import ApiKey
from ledger.secrets import hash_secret, matches, new_secret

KEY_FORM = re.compile(r"(slk_[a-z2-7]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_PREFIX_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_api_key() -> tuple[str, str]:
    """Return a fresh (prefix, whole key): ``slk_`` 8 characters ``_`` 43 characters."""
    prefix = "slk_" + "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8))
    return prefix, new_secret(f"{prefix}_")


def prefix_of(token: str) -> str | None:
    """Return the public part of something of the form of a key, else None."""
    form = KEY_FORM.fullmatch(token)
    return form.group(1) if form else None


def insert_key(
    connection: Connection, site_id: UUID, wix_user_id: UUID, scopes: list[str]
) -> tuple[str, str]:
    """Insert a fresh key and return (prefix, whole key); two prefixes never meet."""
    while True:
        prefix, api_key = new_api_key()
        inserted = connection.execute(
            """
            INSERT INTO api_keys (prefix, key_hash, site_id, wix_user_id, scopes)
            VALUES (%s, %s, %s, %s, %s) ON CONFLICT (prefix) DO NOTHING
            """,
            (prefix, hash_secret(api_key), site_id, wix_user_id, scopes),
        )
        if inserted.rowcount == 1:
            return prefix, api_key


def find_key(connection: Connection, token: str) -> ApiKey | None:
    """Return the key that this token is, unless it is unknown or revoked."""
    row = connection.execute(
        """
        SELECT prefix, key_hash, site_id, wix_user_id, scopes, created_at, revoked_at
        FROM api_keys WHERE prefix = %s AND revoked_at IS NULL
        """,
        (prefix_of(token),),
    ).fetchone()
    if row is None or not matches(token, bytes(row.pop("key_hash"))):
        return None
    return _api_key(row)


def list_keys(connection: Connection) -> list[ApiKey]:
    """Return every key, the revoked too, oldest first."""
    rows = connection.execute(
        """
        SELECT prefix, site_id, wix_user_id, scopes, created_at, revoked_at
        FROM api_keys ORDER BY created_at, prefix
        """
    ).fetchall()
    return [_api_key(row) for row in rows]


def revoke_key(connection: Connection, prefix: str) -> bool:
    """Revoke; again is no error. False where there is no such key."""
    cursor = connection.execute(
        """
        UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())
        WHERE prefix = %s
        """,
        (prefix,),
    )
    return cursor.rowcount == 1


def _api_key(row: dict[str, Any]) -> ApiKey:
    return ApiKey(**{**row, "scopes": frozenset(row["scopes"])})
