"""Idempotency keys: a request that is repeated with its key changes nothing a second time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from uuid import UUID

from ledger.database import Connection, Cursor

KEPT_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class Idempotency:
    """A caller's promise that requests with this key are one request.

    ``credential`` is the public id of whoever asks, ``request_hash`` a SHA-256 of what is
    asked: the same key with another hash is a conflict.
    """

    credential: str
    key: str
    request_hash: bytes

    @cached_property
    def key_hash(self) -> bytes:
        """What is stored in the key's place."""
        return hashlib.sha256(self.key.encode("utf-8")).digest()


KeyAddress = tuple[UUID, str, bytes]


@dataclass(frozen=True, slots=True)
class UsedKey:
    """A key that was used: for which request, and which version came of it."""

    request_hash: bytes
    version: int


def select_used(connection: Connection, partition: int, wanted: Sequence[KeyAddress]) -> Cursor:
    """Rows of those wanted keys that were used within KEPT_FOR; read them with ``used_in``."""
    return connection.execute(
        """
        SELECT used.originator_id, used.credential, used.key_hash, used.request_hash, used.version
        FROM unnest(%(originators)s::uuid[], %(credentials)s::text[], %(keys)s::bytea[])
            AS wanted (originator_id, credential, key_hash)
        CROSS JOIN LATERAL (
            SELECT * FROM idempotency_keys
            WHERE partition = %(partition)s AND originator_id = wanted.originator_id
              AND credential = wanted.credential AND key_hash = wanted.key_hash
            LIMIT 1
        ) AS used
        WHERE used.used_at > clock_timestamp() - %(kept_for)s::interval
        """,
        {
            "partition": partition,
            "kept_for": KEPT_FOR,
            "originators": [originator_id for originator_id, _, _ in wanted],
            "credentials": [credential for _, credential, _ in wanted],
            "keys": [key_hash for _, _, key_hash in wanted],
        },
    )


def used_in(rows: Cursor) -> dict[KeyAddress, UsedKey]:
    """What ``select_used`` found."""
    return {
        (row["originator_id"], row["credential"], row["key_hash"]): UsedKey(
            row["request_hash"], row["version"]
        )
        for row in rows
    }


def keep_used(
    connection: Connection,
    partition: int,
    used: Sequence[tuple[KeyAddress, UsedKey, bytes]],
) -> None:
    """Remember each key whose event, named by version and leaf, is in the log by now."""
    connection.execute(
        """
        INSERT INTO idempotency_keys AS kept (
            partition, originator_id, credential, key_hash, request_hash, version, used_at
        )
        SELECT %(partition)s, key.originator_id, key.credential, key.key_hash, key.request_hash,
               key.version, clock_timestamp()
        FROM unnest(%(originators)s::uuid[], %(credentials)s::text[], %(keys)s::bytea[],
                    %(requests)s::bytea[], %(versions)s::bigint[], %(leaves)s::bytea[])
            AS key (originator_id, credential, key_hash, request_hash, version, leaf_hash)
        CROSS JOIN LATERAL (
            SELECT leaf_hash FROM events
            WHERE partition = %(partition)s AND originator_id = key.originator_id
              AND originator_version = key.version
            LIMIT 1
        ) AS recorded
        WHERE recorded.leaf_hash = key.leaf_hash
        ON CONFLICT (partition, originator_id, credential, key_hash) DO UPDATE
        SET request_hash = excluded.request_hash, version = excluded.version,
            used_at = excluded.used_at
        WHERE kept.version < excluded.version
        """,
        {
            "partition": partition,
            "originators": [address[0] for address, _, _ in used],
            "credentials": [address[1] for address, _, _ in used],
            "keys": [address[2] for address, _, _ in used],
            "requests": [key.request_hash for _, key, _ in used],
            "versions": [key.version for _, key, _ in used],
            "leaves": [leaf for _, _, leaf in used],
        },
    )


def forget_expired(connection: Connection, partition: int, limit: int) -> None:
    """Delete up to ``limit`` keys of the partition that were kept long enough."""
    connection.execute(
        """
        DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM idempotency_keys
            WHERE partition = %s AND used_at <= clock_timestamp() - %s::interval
            ORDER BY used_at LIMIT %s
        ))
        """,
        (partition, KEPT_FOR, limit),
    )
