"""Idempotency keys: a request that is repeated with its key changes nothing a second time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from uuid import UUID

from ledger import wire
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


def look_parameters(wanted: Sequence[KeyAddress]) -> list[bytes | None]:
    """The keys to look for, of ``batch.read_surroundings``."""
    return [
        wire.uuids([originator_id for originator_id, _, _ in wanted]),
        wire.texts([credential for _, credential, _ in wanted]),
        wire.byteas([key_hash for _, _, key_hash in wanted]),
        wire.double(KEPT_FOR.total_seconds()),
    ]


def looked_up(
    wanted: Sequence[KeyAddress], columns: Sequence[bytes | None]
) -> dict[KeyAddress, UsedKey]:
    """Those of the keys that were used within KEPT_FOR: places, requests and versions."""
    places, requests, versions = columns
    return {
        wanted[place - 1]: UsedKey(request, version)
        for place, request, version in zip(
            wire.numbers_in(places),
            wire.byteas_in(requests),
            wire.numbers_in(versions),
            strict=True,
        )
    }


def used_parameters(used: Sequence[tuple[KeyAddress, UsedKey]]) -> list[bytes | None]:
    """Keys to remember with an append (``eventlog.prepare_append``)."""
    return [
        wire.double(KEPT_FOR.total_seconds()),
        wire.uuids([originator_id for (originator_id, _, _), _ in used]),
        wire.texts([credential for (_, credential, _), _ in used]),
        wire.byteas([key_hash for (_, _, key_hash), _ in used]),
        wire.byteas([key.request_hash for _, key in used]),
        wire.bigints([key.version for _, key in used]),
    ]
