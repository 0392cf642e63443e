"""Apps' secrets: their form, their rotation, and one function per query."""

from __future__ import annotations

import secrets
from datetime import timedelta
from uuid import UUID

from ledger.database import Connection
from ledger.directory.rows import AppSecret
from ledger.secrets import hash_secret, matches, new_secret

_PREFIX_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_NOBODYS_HASH = hash_secret(new_secret())


def new_app_secret() -> tuple[str, str]:
    """Return a fresh (prefix, whole secret): ``sls_`` 8 characters ``_`` 43 characters."""
    prefix = "sls_" + "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8))
    return prefix, new_secret(f"{prefix}_")


def insert_secret(connection: Connection, app_id: UUID) -> tuple[str, str]:
    """Insert a fresh secret of the app and return (prefix, whole secret)."""
    while True:
        prefix, secret = new_app_secret()
        inserted = connection.execute(
            """
            INSERT INTO app_secrets (prefix, app_id, secret_hash) VALUES (%s, %s, %s)
            ON CONFLICT (prefix) DO NOTHING
            """,
            (prefix, app_id, hash_secret(secret)),
        )
        if inserted.rowcount == 1:
            return prefix, secret


def matching_secret(connection: Connection, app_id: UUID, secret: str) -> str | None:
    """Return the prefix of the app's secret that this one is, unless it expired or is unknown.

    Every secret of the app is compared, in constant time; an unknown app costs a comparison too.
    """
    rows = connection.execute(
        """
        SELECT prefix, secret_hash FROM app_secrets
        WHERE app_id = %s AND (expires_at IS NULL OR expires_at > clock_timestamp())
        ORDER BY created_at
        """,
        (app_id,),
    ).fetchall()
    held = [row["prefix"] for row in rows if matches(secret, bytes(row["secret_hash"]))]
    if not rows:
        matches(secret, _NOBODYS_HASH)
    return held[0] if held else None


def expire_secrets(connection: Connection, app_id: UUID, overlap: timedelta) -> None:
    """Let the app's present secrets hold for ``overlap`` at most; zero revokes them.

    An overlap never prolongs an earlier one. Revoking takes in secrets that expired, because
    tokens that they got may still hold.
    """
    connection.execute(
        """
        UPDATE app_secrets
        SET expires_at = least(expires_at, clock_timestamp() + %(overlap)s),
            revoked_at = CASE WHEN %(overlap)s = interval '0'
                              THEN coalesce(revoked_at, clock_timestamp()) ELSE revoked_at END
        WHERE app_id = %(app_id)s
        """,
        {"app_id": app_id, "overlap": overlap},
    )


def list_secrets(connection: Connection, app_id: UUID | None = None) -> list[AppSecret]:
    """Return the secrets of one app or of all, those that expired too, oldest first."""
    rows = connection.execute(
        """
        SELECT prefix, app_id, created_at, expires_at, revoked_at FROM app_secrets
        WHERE %(app_id)s::uuid IS NULL OR app_id = %(app_id)s
        ORDER BY created_at, prefix
        """,
        {"app_id": app_id},
    ).fetchall()
    return [AppSecret(**row) for row in rows]


def select_revoked(connection: Connection, within: timedelta) -> frozenset[str]:
    """Return the prefixes of the secrets that were revoked within this time."""
    rows = connection.execute(
        "SELECT prefix FROM app_secrets WHERE revoked_at > clock_timestamp() - %s", (within,)
    ).fetchall()
    return frozenset(row["prefix"] for row in rows)
