"""What the ledger asks of the projection that keeps its history; it does not know which that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from ledger.database import Connection
from ledger.history.rows import RecordedChange


class Absent(Enum):
    """No value was asked for; null is one that can be."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class SiteQuestion:
    """Changes of one site: versions between two, inclusive; ``refs`` are who did them, or for whom.

    ``since`` and ``until`` say nothing that the versions do not say; they are what an index of
    who did what is ordered by.
    """

    partition: int
    originator_id: UUID
    from_version: int
    to_version: int
    limit: int | None = None
    newest_first: bool = True
    field: str | None = None
    refs: Sequence[UUID] | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a change stands among all: newest first by time, then partition, then position."""

    recorded_at: datetime
    partition: int
    position: int


@dataclass(frozen=True, slots=True)
class AuditQuestion:
    """Changes of many sites, newest first, none behind ``heads`` ({partition: position}).

    ``before`` is the last one already seen. Who did them, or for whom, is given by ``identities``
    or, on certain sites, by (partition, ref) in ``refs``. ``originators`` are the (partition,
    originator) of sites. ``origin`` also matches what begins with it and a colon; ``value`` is
    what a field was set to; ``text`` is part of the reason.
    """

    heads: dict[int, int]
    limit: int
    before: Place | None = None
    since: datetime | None = None
    until: datetime | None = None
    identities: Sequence[UUID] | None = None
    refs: Sequence[tuple[int, UUID]] | None = None
    originators: Sequence[tuple[int, UUID]] | None = None
    kinds: Sequence[str] | None = None
    field: str | None = None
    value: Any = ABSENT
    origin: str | None = None
    text: str | None = None


class HistoryTable(Protocol):
    """One row per event and what finds them fast. Follows the log; ``catch_up`` makes it."""

    def catch_up(self, partition: int, position: int, timeout: float) -> None:
        """Return once every event up to ``position`` is among the rows.

        Raises Unavailable after ``timeout`` seconds, UnknownTopic for an event that this
        program cannot read.
        """

    def standing(
        self,
        connection: Connection,
        partition: int,
        originator_id: UUID,
        *,
        version: int | None = None,
        time: datetime | None = None,
        position: int | None = None,
    ) -> RecordedChange | None:
        """The newest change not behind any of the bounds, by one look-up."""

    def first_since(
        self, connection: Connection, partition: int, originator_id: UUID, time: datetime
    ) -> int | None:
        """The version of the oldest change not before ``time``."""

    def site_changes(self, connection: Connection, question: SiteQuestion) -> list[RecordedChange]:
        """The changes asked for, by version."""

    def last_changes(
        self,
        connection: Connection,
        partition: int,
        originator_id: UUID,
        version: int,
        fields: Sequence[str],
    ) -> dict[str, RecordedChange]:
        """For each field the last change of it, not behind ``version``."""

    def search(self, connection: Connection, question: AuditQuestion) -> list[RecordedChange]:
        """The changes asked for, newest first."""

    def positions(
        self,
        connection: Connection,
        partition: int,
        since: datetime | None,
        until: datetime | None,
    ) -> tuple[int, int] | None:
        """The first and last position of the changes within the times; None where there are none."""

    def has_field(self, connection: Connection, partition: int, field: str) -> bool:
        """Whether some change on the partition touched ``field``."""
