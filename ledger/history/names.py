"""Names: whom and what thousands of references at a time stand for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ledger.database import Connection
from ledger.identity import Identity, IdentityType


def identities_behind(
    connection: Connection, partition: int, refs: Iterable[str]
) -> dict[str, Identity]:
    """Whom the references name; erased ones are absent.

    References are texts here, as events have them: to make numbers of them, and texts again,
    takes longer than to look them up.
    """
    rows = connection.execute(
        "SELECT ref::text, type, subject_id FROM actors "
        "WHERE partition = %s AND ref = ANY (%s::uuid[])",
        (partition, _array(refs)),
    )
    return {row["ref"]: _identity(row["type"], row["subject_id"]) for row in rows}


def reasons_behind(connection: Connection, partition: int, refs: Iterable[str]) -> dict[str, str]:
    """The texts that the references name; erased ones are absent."""
    rows = connection.execute(
        "SELECT ref::text, text FROM reasons WHERE partition = %s AND ref = ANY (%s::uuid[])",
        (partition, _array(refs)),
    )
    return {row["ref"]: row["text"] for row in rows}


def _array(refs: Iterable[str]) -> str:
    """PostgreSQL's own way to write an array; UUIDs need no quotes in it."""
    return f"{{{','.join(refs)}}}"


@lru_cache(maxsize=10_000)
def _identity(of_type: str, subject_id: str) -> Identity:
    """Whoever acts on many sites has a reference on each."""
    return Identity(IdentityType(of_type), subject_id)
