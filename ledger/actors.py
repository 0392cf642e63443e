"""Who acted and why, beside the log: events hold references and commitments, these tables the rest."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from ledger import wire
from ledger.aggregate import Token
from ledger.canonical import text_problem
from ledger.database import Connection, Cursor
from ledger.errors import InvalidInput
from ledger.identity import Identity, IdentityType, commitment

SALT_BYTES = 32
LONGEST_REASON = 1000
_REASON = "reason"

SiteIdentity = tuple[UUID, Identity]


@dataclass(frozen=True, slots=True)
class ReasonNote:
    """A reason's text on its way into its table, beside the event that refers to it."""

    ref: UUID
    site_id: UUID
    text: str
    salt: bytes

    @classmethod
    def write(cls, site_id: UUID, text: str) -> ReasonNote:
        """A note with a fresh reference and salt."""
        return cls(uuid4(), site_id, text, secrets.token_bytes(SALT_BYTES))

    @property
    def token(self) -> Token:
        """What the event holds in the text's place."""
        return {"ref": str(self.ref), "commitment": commitment(self.salt, _REASON, self.text)}


def check_reason(reason: object) -> None:
    """Raise InvalidInput for a reason that cannot be kept."""
    if reason is None:
        return
    if not isinstance(reason, str) or not reason.strip() or len(reason) > LONGEST_REASON:
        raise InvalidInput("reason", f"expected 1 to {LONGEST_REASON} characters")
    if (problem := text_problem(reason)) is not None:
        raise InvalidInput("reason", problem)


def look_parameters(wanted: Sequence[SiteIdentity]) -> list[bytes | None]:
    """The (site, identity) to look for, of ``batch.read_surroundings``."""
    return [
        wire.uuids([site_id for site_id, _ in wanted]),
        wire.texts([identity.type.value for _, identity in wanted]),
        wire.texts([identity.id for _, identity in wanted]),
    ]


def looked_up(
    wanted: Sequence[SiteIdentity], columns: Sequence[bytes | None]
) -> dict[SiteIdentity, Token]:
    """The tokens of those that are known: places, references and salts."""
    places, refs, salts = columns
    found = zip(wire.numbers_in(places), wire.uuids_in(refs), wire.byteas_in(salts), strict=True)
    return {
        wanted[place - 1]: _token(wanted[place - 1][1], ref, salt) for place, ref, salt in found
    }


def _token(identity: Identity, ref: str, salt: bytes) -> Token:
    of_type = identity.type.value
    return {"type": of_type, "ref": ref, "commitment": commitment(salt, of_type, identity.id)}


def _select_tokens(
    connection: Connection, partition: int, wanted: Sequence[SiteIdentity]
) -> Cursor:
    """Rows of those wanted (site, identity) that are known; read them with ``_tokens_in``."""
    return connection.execute(
        """
        SELECT known.site_id, known.type, known.subject_id, known.ref, known.salt
        FROM unnest(%(sites)s::uuid[], %(types)s::text[], %(ids)s::text[])
            AS wanted (site_id, type, subject_id)
        -- Said so that no index but the one that begins with the site serves.
        CROSS JOIN LATERAL (
            SELECT * FROM actors
            WHERE (partition, site_id, type, subject_id)
               >= (%(partition)s, wanted.site_id, wanted.type, wanted.subject_id)
            ORDER BY partition, site_id, type, subject_id LIMIT 1
        ) AS known
        WHERE known.partition = %(partition)s AND known.site_id = wanted.site_id
          AND known.type = wanted.type AND known.subject_id = wanted.subject_id
        """,
        {"partition": partition, **_columns(wanted)},
    )


def _tokens_in(rows: Cursor) -> dict[SiteIdentity, Token]:
    tokens = {}
    for row in rows:
        identity = Identity(IdentityType(row["type"]), row["subject_id"])
        tokens[row["site_id"], identity] = _token(identity, str(row["ref"]), row["salt"])
    return tokens


def add_tokens(
    connection: Connection, partition: int, wanted: Sequence[SiteIdentity]
) -> dict[SiteIdentity, Token]:
    """Make the missing ones known and return all wanted; whoever comes second gets the first's.

    All references of one identity share its number, by which a search finds what it did
    anywhere; numbers made here are for those whom no site knew. On disk before anything refers to
    them: an append that is sent again after the server crashed must not name somebody forgotten.
    """
    numbers = {identity: uuid4() for _, identity in wanted}
    with connection.transaction():
        connection.execute(
            """
            INSERT INTO actors (ref, partition, site_id, type, subject_id, salt, identity)
            SELECT wanted.ref, %(partition)s, wanted.site_id, wanted.type, wanted.subject_id,
                   wanted.salt, coalesce(known.identity, wanted.identity)
            FROM unnest(%(refs)s::uuid[], %(sites)s::uuid[], %(types)s::text[],
                        %(ids)s::text[], %(salts)s::bytea[], %(identities)s::uuid[])
                AS wanted (ref, site_id, type, subject_id, salt, identity)
            LEFT JOIN LATERAL (
                SELECT identity FROM actors
                WHERE subject_id = wanted.subject_id AND type = wanted.type
                ORDER BY identity LIMIT 1
            ) AS known ON true
            ON CONFLICT (partition, site_id, type, subject_id) DO NOTHING
            """,
            {
                "partition": partition,
                "refs": [uuid4() for _ in wanted],
                "salts": [secrets.token_bytes(SALT_BYTES) for _ in wanted],
                "identities": [numbers[identity] for _, identity in wanted],
                **_columns(wanted),
            },
        )
        return _tokens_in(_select_tokens(connection, partition, wanted))


def _columns(wanted: Sequence[SiteIdentity]) -> dict[str, list[UUID] | list[str]]:
    return {
        "sites": [site_id for site_id, _ in wanted],
        "types": [identity.type.value for _, identity in wanted],
        "ids": [identity.id for _, identity in wanted],
    }


def reason_parameters(notes: Sequence[tuple[ReasonNote, UUID]]) -> list[bytes | None]:
    """Reasons to keep with an append (``eventlog.prepare_append``), each with its originator.

    All events of one originator are appended, or none.
    """
    return [
        wire.uuids([note.ref for note, _ in notes]),
        wire.uuids([note.site_id for note, _ in notes]),
        wire.texts([note.text for note, _ in notes]),
        wire.byteas([note.salt for note, _ in notes]),
        wire.uuids([originator_id for _, originator_id in notes]),
    ]


def broken_commitments(connection: Connection, partition: int, tokens: Iterable[Token]) -> set[str]:
    """The references of those tokens whose kept value is not what they commit to.

    Erased values are no fault: there is nothing left to compare.
    """
    committed = {token["ref"]: token["commitment"] for token in tokens}
    kept = connection.execute(
        """
        SELECT ref, type, subject_id AS value, salt FROM actors
        WHERE partition = %(partition)s AND ref = ANY (%(refs)s::uuid[])
        UNION ALL
        SELECT ref, %(reason)s, text, salt FROM reasons
        WHERE partition = %(partition)s AND ref = ANY (%(refs)s::uuid[])
        """,
        {"partition": partition, "reason": _REASON, "refs": [UUID(ref) for ref in committed]},
    )
    return {
        str(row["ref"])
        for row in kept
        if commitment(row["salt"], row["type"], row["value"]) != committed[str(row["ref"])]
    }


def resolve_actors(
    connection: Connection, partition: int, refs: Iterable[UUID | str]
) -> dict[UUID, Identity]:
    """Whom the references name; erased ones are absent."""
    rows = connection.execute(
        "SELECT ref, type, subject_id FROM actors WHERE partition = %s AND ref = ANY(%s::uuid[])",
        (partition, [str(ref) for ref in refs]),
        binary=True,
    )
    return {row["ref"]: Identity(IdentityType(row["type"]), row["subject_id"]) for row in rows}


def resolve_reasons(
    connection: Connection, partition: int, refs: Iterable[UUID | str]
) -> dict[UUID, str]:
    """The texts that the references name; erased ones are absent."""
    rows = connection.execute(
        "SELECT ref, text FROM reasons WHERE partition = %s AND ref = ANY(%s::uuid[])",
        (partition, [str(ref) for ref in refs]),
        binary=True,
    )
    return {row["ref"]: row["text"] for row in rows}


def find_refs(
    connection: Connection,
    subject_id: str,
    of_type: str | None,
    sites: Sequence[tuple[int, UUID]],
) -> list[tuple[int, UUID]]:
    """(partition, ref) of whoever has this id, of one type where named, on (partition, site)s."""
    rows = connection.execute(
        """
        SELECT actors.partition, actors.ref
        FROM unnest(%(partitions)s::int[], %(sites)s::uuid[]) AS site (partition, site_id)
        JOIN actors USING (partition, site_id)
        WHERE actors.type = ANY (%(types)s::text[]) AND actors.subject_id = %(subject_id)s
        ORDER BY actors.partition, actors.ref
        """,
        {
            "partitions": [partition for partition, _ in sites],
            "sites": [site_id for _, site_id in sites],
            "types": _types(of_type),
            "subject_id": subject_id,
        },
    )
    return [(row["partition"], row["ref"]) for row in rows]


def find_identities(connection: Connection, subject_id: str, of_type: str | None) -> list[UUID]:
    """The numbers of whoever has this id, of one type where named; none for nobody.

    One, or a few where writers met: a look-up each, on however many sites they act.
    """
    rows = connection.execute(
        FIND_IDENTITIES.encode(), {"types": _types(of_type), "subject_id": subject_id}
    )
    return [row["identity"] for row in rows]


FIND_IDENTITIES = """
WITH RECURSIVE known AS (
    SELECT wanted.type, first.identity FROM unnest(%(types)s::text[]) AS wanted (type)
    CROSS JOIN LATERAL (
        SELECT identity FROM actors
        WHERE subject_id = %(subject_id)s AND type = wanted.type
        ORDER BY identity LIMIT 1
    ) AS first
    UNION ALL
    SELECT known.type, next.identity FROM known CROSS JOIN LATERAL (
        SELECT identity FROM actors
        WHERE subject_id = %(subject_id)s AND type = known.type AND identity > known.identity
        ORDER BY identity LIMIT 1
    ) AS next
)
SELECT identity FROM known
"""


def _types(of_type: str | None) -> list[str]:
    return [of_type] if of_type is not None else [one.value for one in IdentityType]


def named(by: Identity | str) -> tuple[str, str | None]:
    """(id, type) of an identity; a bare id may be of any type."""
    return (by.id, by.type.value) if isinstance(by, Identity) else (by, None)
