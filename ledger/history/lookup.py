"""Looking changes of one site up: by version, by time, by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ledger import actors, timestamps
from ledger.aggregate import originator_id
from ledger.errors import InvalidInput, NotFound
from ledger.history.changes import Change, name_changes
from ledger.history.horizon import Horizon
from ledger.history.moments import (
    Time,
    When,
    check_order,
    parse_since,
    parse_until,
    parse_version,
    parse_when,
)
from ledger.history.pages import Page, write_cursor
from ledger.history.rows import RecordedChange, Standing
from ledger.history.sites import SiteRow
from ledger.history.table import SiteQuestion
from ledger.identity import Identity
from ledger.settings import SettingsKind

LAST_VERSION = 2**63 - 1


class SiteLookup:
    """The rows of one site's settings of one kind, each found by one look-up."""

    def __init__(self, horizon: Horizon, site: SiteRow, kind: SettingsKind) -> None:
        self.horizon = horizon
        self.site_id = site.site_id
        self.partition = site.partition
        self.kind = kind
        self.originator_id = originator_id(site.site_id, kind.fqdn)
        self._site = site

    def standing(self, when: When, option: str) -> Standing:
        """The settings after the change that ``when`` names, or the last one before it.

        Raises InvalidInput naming ``option``, NotFound for a version that there is not.
        """
        moment = when
        # A version is the same for ever: no clock and no head need be asked first.
        if not isinstance(when, int):
            moment = parse_when(when, option, self.horizon.now())
        if isinstance(moment, int):
            version = parse_version(moment, option, lowest=0)
            return Standing.after(self.change(version)) if version else self._unrecorded()
        assert not isinstance(moment, str)
        [head] = self.horizon.reach([self.partition], moment).values()
        row = self.first_row(time=moment, position=head)
        if row is not None:
            return Standing.after(row)
        unrecorded = self._unrecorded()
        if moment is not None and moment < unrecorded.recorded_at:
            began = timestamps.stored(unrecorded.recorded_at)
            raise InvalidInput(option, f"is before the site was created, at {began}")
        return unrecorded

    def change(self, version: int) -> RecordedChange:
        """The change ``version``. Raises NotFound."""
        row = self.first_row(version=version)
        if row is None or row.version != version:
            self.horizon.reach([self.partition])
            row = self.first_row(version=version)
        if row is None or row.version != version:
            raise NotFound("version", version)
        return row

    def first_row(self, **bounds: Any) -> RecordedChange | None:
        """The newest change within the bounds of ``HistoryTable.standing``."""
        with self.horizon.database.connection() as connection:
            return self.horizon.table.standing(
                connection, self.partition, self.originator_id, **bounds
            )

    def versions(
        self,
        from_version: int | None,
        to_version: int | None,
        since: Time | None,
        until: Time | None,
    ) -> tuple[int, int]:
        """The versions that the bounds leave. Versions and times of a site rise together."""
        first = parse_version(from_version or 1, "from_version")
        last = LAST_VERSION if to_version is None else parse_version(to_version, "to_version")
        if first > last:
            raise InvalidInput("from_version", "must not be higher than to_version")
        now = self.horizon.now()
        oldest = None if since is None else parse_since(since, "since", now)
        newest = None if until is None else parse_until(until, "until", now)
        check_order(oldest, newest)
        [head] = self.horizon.reach([self.partition], newest).values()
        table, here = self.horizon.table, (self.partition, self.originator_id)
        with self.horizon.database.connection() as connection:
            row = table.standing(connection, *here, time=newest, position=head)
            last = min(last, row.version if row else 0)
            if oldest is not None:
                first = max(first, table.first_since(connection, *here, oldest) or LAST_VERSION)
        return first, last

    def page(self, question: SiteQuestion, limit: int | None, asked: str) -> Page[Change]:
        """A page of what was asked for with one change more than its ``limit``."""
        changes = self.changes(question)
        if limit is None or len(changes) <= limit:
            return Page(changes)
        last = changes[limit - 1]
        place: dict[str, Any] = {"first": question.from_version, "last": question.to_version}
        stamp = timestamps.stored(last.timestamp)
        if question.newest_first:
            place |= {"last": last.version - 1, "until": stamp}
        else:
            place |= {"first": last.version + 1, "since": stamp}
        return Page(changes[:limit], write_cursor(asked, place))

    def changes(self, question: SiteQuestion) -> list[Change]:
        """What was asked for, with the names that are still kept."""
        with self.horizon.database.connection() as connection:
            rows = self.horizon.table.site_changes(connection, question)
            return name_changes(connection, rows)

    def last_changes(self, version: int, fields: Sequence[str]) -> dict[str, Change]:
        """For each field the last change of it, not behind ``version``."""
        with self.horizon.database.connection() as connection:
            last = self.horizon.table.last_changes(
                connection, self.partition, self.originator_id, version, fields
            )
            changes = name_changes(connection, list(last.values()))
        return dict(zip(last, changes, strict=True))

    def refs(self, by: Identity | str) -> list[UUID]:
        """What stands for somebody in this site's changes. Raises InvalidInput for nobody."""
        with self.horizon.database.connection() as connection:
            here = [(self.partition, self.site_id)]
            refs = actors.find_refs(connection, *actors.named(by), here)
        if not refs:
            raise InvalidInput("by", f"nobody with the id {actors.named(by)[0]} has acted here")
        return [ref for _, ref in refs]

    def _unrecorded(self) -> Standing:
        """What a site has from its creation on: the defaults, as they were recorded if they were."""
        first = self.first_row(version=1)
        if first is None:
            return Standing(0, None, self._site.created_at, self.kind.defaults())
        # A site that was brought from elsewhere may be younger here than what it brought.
        began = min(self._site.created_at, first.recorded_at)
        return Standing(0, None, began, first.settings)
