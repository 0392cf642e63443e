"""The audit of all sites: who changed what, when and why, found and handed out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, BinaryIO
from uuid import UUID

from ledger import actors, timestamps
from ledger.errors import InvalidInput
from ledger.history.changes import Change, name_changes
from ledger.history.export import Exported, FromPosition, Progress, export
from ledger.history.fields import check_field
from ledger.history.horizon import Horizon
from ledger.history.moments import Time, check_order, parse_since, parse_until
from ledger.history.pages import Page, check_limit, fingerprint, read_cursor, write_cursor
from ledger.history.replay import Selection
from ledger.history.sites import Sites, kinds_of, originators_of, sites_of
from ledger.history.table import ABSENT, AuditQuestion, Place
from ledger.identity import Identity
from ledger.kinds import KINDS
from ledger.settings import SettingsKind

PAGE = 50


class Audit:
    """Questions over all sites. A page and those behind it show the ledger as it was at the first."""

    def __init__(self, horizon: Horizon, sites: Sites) -> None:
        self._horizon = horizon
        self._sites = sites

    def search(
        self,
        *,
        by: Identity | str | None = None,
        field: str | None = None,
        value: Any = ABSENT,
        since: Time | None = None,
        until: Time | None = None,
        origin: str | None = None,
        text: str | None = None,
        kinds: Iterable[SettingsKind | str] | None = None,
        sites: Iterable[UUID | str] | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
    ) -> Page[Change]:
        """The changes that match all that is named, newest first.

        ``by`` is who acted or on whose behalf, ``field`` a path or the beginning of one, ``value``
        what a field was set to, ``origin`` a whole origin or what stands before its colon
        (``restore``), ``text`` a part of the reason in any case. The page's ``next`` is the
        ``cursor`` of the one behind it, to be used with the same options. Raises InvalidInput
        naming the option, NotFound for a site or kind.
        """
        check_limit(limit)
        named, wanted = kinds_of(kinds), sites_of(sites)
        fqdns = None if named is None else sorted(kind.fqdn for kind in named)
        asked = fingerprint(by, field, value, since, until, origin, text, fqdns, wanted)
        partitions = self._sites.partitions()
        # Bounds before anything is looked up, so that what is asked is within them.
        heads, oldest, newest, before = (
            self._bounds(partitions, since, until)
            if cursor is None
            else _bounds_in(read_cursor(cursor, asked))
        )
        if field is not None:
            check_field(self._horizon, partitions, named or list(KINDS.values()), field)
        question = AuditQuestion(
            heads=heads,
            limit=limit + 1,
            before=before,
            since=oldest,
            until=newest,
            **self._who(by, wanted),
            originators=originators_of(self._sites, wanted, named),
            kinds=fqdns,
            field=field,
            value=value,
            origin=_filled(origin, "origin"),
            text=_filled(text, "text"),
        )
        return self._page(question, asked)

    def export(
        self,
        out: BinaryIO,
        format: str = "ndjson",  # noqa: A002
        *,
        from_position: FromPosition = 0,
        since: Time | None = None,
        until: Time | None = None,
        sites: Iterable[UUID | str] | None = None,
        kinds: Iterable[SettingsKind | str] | None = None,
        progress: Progress | None = None,
    ) -> Exported:
        """Write every change to ``out`` in the log's order, in constant memory.

        ``format`` is ndjson, csv, parquet (needs the extra ``parquet``) or ocsf. Goes on from
        ``from_position`` (inclusive; one number, or one per partition as an earlier export gave
        it). Raises InvalidInput naming the option.
        """
        selection = Selection.of(
            self._horizon, self._sites, from_position, since, until, sites, kinds
        )
        return export(selection, out, format, progress)

    def _bounds(
        self, partitions: list[int], since: Time | None, until: Time | None
    ) -> tuple[dict[int, int], datetime | None, datetime | None, Place | None]:
        now = self._horizon.now()
        oldest = None if since is None else parse_since(since, "since", now)
        newest = None if until is None else parse_until(until, "until", now)
        check_order(oldest, newest)
        return self._horizon.reach(partitions, newest), oldest, newest, None

    def _page(self, question: AuditQuestion, asked: str) -> Page[Change]:
        with self._horizon.database.connection() as connection:
            rows = self._horizon.table.search(connection, question)
            more = len(rows) == question.limit
            changes = name_changes(connection, rows[: question.limit - 1])
        if not more:
            return Page(changes)
        last = rows[question.limit - 2]
        question = replace(question, before=Place(last.recorded_at, last.partition, last.position))
        return Page(changes, write_cursor(asked, _place(question)))

    def _who(self, by: Identity | str | None, wanted: list[UUID] | None) -> dict[str, Any]:
        """By what an AuditQuestion finds who acted: a reference on each site, or what they share.

        Raises InvalidInput for nobody.
        """
        if by is None:
            return {}
        subject, places = actors.named(by), None
        if wanted is not None:
            places = [(self._sites.site(site).partition, site) for site in wanted]
        with self._horizon.database.connection() as connection:
            identities = actors.find_identities(connection, *subject)
            if not identities:
                raise InvalidInput("by", f"nobody with the id {subject[0]} has acted here")
            if places is None:
                return {"identities": identities}
            return {"refs": actors.find_refs(connection, *subject, places)}


def _filled(text: str | None, option: str) -> str | None:
    if text is not None and not text.strip():
        raise InvalidInput(option, "must not be empty")
    return text


def _place(question: AuditQuestion) -> dict[str, Any]:
    assert question.before is not None
    return {
        "heads": sorted(question.heads.items()),
        "since": question.since and timestamps.stored(question.since),
        "until": question.until and timestamps.stored(question.until),
        "time": timestamps.stored(question.before.recorded_at),
        "partition": question.before.partition,
        "position": question.before.position,
    }


def _bounds_in(
    place: dict[str, Any],
) -> tuple[dict[int, int], datetime | None, datetime | None, Place | None]:
    try:
        heads = {int(partition): int(position) for partition, position in place["heads"]}
        since = place["since"] and timestamps.parse(place["since"])
        until = place["until"] and timestamps.parse(place["until"])
        time, partition = timestamps.parse(place["time"]), int(place["partition"])
        return heads, since, until, Place(time, partition, int(place["position"]))
    except (KeyError, ValueError, TypeError):
        raise InvalidInput("cursor", "is not one that an earlier page gave as its next") from None
