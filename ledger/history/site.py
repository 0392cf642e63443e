"""The history of one site's settings of one kind: every change, any moment, and what to undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from ledger import timestamps
from ledger.errors import InvalidInput, VersionMismatch
from ledger.history.changes import Change
from ledger.history.fields import check_field
from ledger.history.horizon import Horizon
from ledger.history.lookup import SiteLookup
from ledger.history.moments import (
    Time,
    When,
    parse_version,
)
from ledger.history.pages import Page, check_limit, fingerprint, read_cursor
from ledger.history.rows import RecordedChange, Standing
from ledger.history.sites import SiteRow
from ledger.history.snapshots import Blame, Difference, Snapshot
from ledger.history.table import SiteQuestion
from ledger.history.undo import Recorder, Undone, find_conflicts, plan_restore, plan_revert
from ledger.identity import Identity, Provenance
from ledger.settings import SettingsKind, changes_between

REPLAY_PAGE = 500
NEWEST, OLDEST = "newest", "oldest"


class SiteHistory:
    """Every change of one site's settings of one kind, and the settings at any moment.

    Reads see all that was acknowledged before them. What is asked with an upper bound (a
    version or a time) is answered the same for ever. Times are aware datetimes, ISO strings
    with a zone or ``"2 days ago"``; see ``ledger.history.moments``.
    """

    def __init__(
        self,
        horizon: Horizon,
        site: SiteRow,
        kind: SettingsKind,
        recorder: Recorder,
    ) -> None:
        self.site_id = site.site_id
        self.partition = site.partition
        self.kind = kind
        self._horizon = horizon
        self._lookup = SiteLookup(horizon, site, kind)
        self._recorder = recorder

    def changes(
        self,
        from_version: int | None = None,
        to_version: int | None = None,
        *,
        since: Time | None = None,
        until: Time | None = None,
        field: str | None = None,
        by: Identity | str | None = None,
        order: str = NEWEST,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Change]:
        """The changes within the bounds (inclusive), newest first; the creation is version 1.

        ``field`` is a path or the beginning of one (``emailNotifications``), ``by`` who acted or
        on whose behalf. With ``limit`` the page's ``next`` is the ``cursor`` of the one behind it,
        to be used with the same options; without, everything is on one page. Raises
        InvalidInput naming the option.
        """
        check_limit(limit)
        if order not in (NEWEST, OLDEST):
            raise InvalidInput("order", f"expected {NEWEST} or {OLDEST}")
        asked = fingerprint(
            self._lookup.originator_id, from_version, to_version, since, until, field, by, order
        )
        if cursor is not None:
            first, last, after, before = _range_in(read_cursor(cursor, asked))
        else:
            first, last = self._lookup.versions(from_version, to_version, since, until)
            after = before = None
        if field is not None:
            check_field(self._horizon, [self.partition], [self.kind], field)
        question = SiteQuestion(
            self.partition,
            self._lookup.originator_id,
            first,
            last,
            limit=None if limit is None else limit + 1,
            newest_first=order == NEWEST,
            field=field,
            refs=None if by is None else self._lookup.refs(by),
            since=after,
            until=before,
        )
        return self._lookup.page(question, limit, asked)

    def at(self, when: When = None, *, option: str = "at") -> Snapshot:
        """The settings after all changes up to ``when``, inclusive.

        Before the first change they are the kind's defaults, at version 0 and at no position.
        Raises InvalidInput, naming ``option``, for a time before the site's creation or in the
        future, NotFound for a version that there is not.
        """
        standing = self._lookup.standing(when, option)
        created = None if standing.version == 0 else self._lookup.first_row(version=1)
        return Snapshot(
            self.site_id,
            self.kind,
            self.partition,
            standing.version,
            standing.position,
            standing.recorded_at,
            standing.recorded_at if created is None else created.recorded_at,
            standing.settings,
        )

    def at_version(self, version: int) -> Snapshot:
        """The settings after the change ``version``; 0: before any. Raises NotFound."""
        return self.at(parse_version(version, "version", lowest=0), option="version")

    def diff(self, a: When, b: When = None, *, of: SiteHistory | None = None) -> Difference:
        """What leads from the settings at ``a`` to those at ``b``, which is on the site ``of``."""
        other = of or self
        if other.kind != self.kind:
            raise InvalidInput("of", f"has settings of another kind, {other.kind.fqdn}")
        return Difference(self.at(a, option="a"), other.at(b, option="b"))

    def blame(self, when: When = None) -> dict[str, Blame]:
        """For every field its value and the change that set it last, as of ``when``.

        At version 0 all are defaults, which nobody has set.
        """
        standing = self._lookup.standing(when, "at")
        values = {path: ends["to"] for path, ends in changes_between({}, standing.settings).items()}
        if standing.version == 0:
            return {path: Blame.of_default(values[path], standing) for path in values}
        last = self._lookup.last_changes(standing.version, list(values))
        return {path: Blame.of(values[path], last[path]) for path in values if path in last}

    def replay(
        self, reducer: Callable[[Any, Change], Any], initial: Any = None, *, to: When = None
    ) -> Any:
        """Fold the changes up to ``to`` with ``reducer(state, change)``, oldest first."""
        state = initial
        for change in self.each(to):
            state = reducer(state, change)
        return state

    def each(self, to: When = None) -> Iterator[Change]:
        """The changes up to ``to``, oldest first, however many there are."""
        last = self._lookup.standing(to, "to").version
        first = 1
        while first <= last:
            upto = min(first + REPLAY_PAGE - 1, last)
            yield from self._lookup.changes(
                SiteQuestion(
                    self.partition, self._lookup.originator_id, first, upto, newest_first=False
                )
            )
            first = upto + 1

    def restore(
        self,
        to: When,
        *,
        reason: str | None = None,
        dry_run: bool = False,
        by: Identity | None = None,
        provenance: Provenance | None = None,
        if_version: int | None = None,
    ) -> Undone:
        """Record the change that brings back the settings of ``to`` (origin ``restore:v3``).

        ``dry_run`` only says what it would change. ``provenance`` says who acts, through what and
        for whom; ``by`` is the short form. Whoever changes the settings meanwhile is not
        overwritten unseen: the change is worked out anew on what they left, or refused with
        VersionMismatch where ``if_version`` was given.
        """
        target = self._lookup.standing(to, "to")
        return self._recorder.undo(
            lambda: plan_restore(self.kind, self._standing(if_version), target),
            origin=f"restore:v{target.version}",
            reason=reason,
            dry_run=dry_run,
            by=by,
            provenance=provenance,
            insist=if_version is None,
        )

    def revert(
        self,
        version: int,
        *,
        reason: str | None = None,
        dry_run: bool = False,
        by: Identity | None = None,
        provenance: Provenance | None = None,
        if_version: int | None = None,
    ) -> Undone:
        """Record a change that undoes what ``version`` changed, and nothing else (``revert:v7``).

        A field that was changed since is left as it is and stands among the ``conflicts``;
        where all were, nothing is recorded. Otherwise as ``restore``.
        """
        change = self._lookup.change(parse_version(version, "version"))
        if change.version == 1:
            raise InvalidInput("version", "1 is the creation, which cannot be undone")

        def plan() -> Undone:
            standing = self._standing(if_version)
            return plan_revert(self.kind, standing, change, self._last(standing, change))

        return self._recorder.undo(
            plan,
            origin=f"revert:v{version}",
            reason=reason,
            dry_run=dry_run,
            by=by,
            provenance=provenance,
            insist=if_version is None,
        )

    def undone(self, version: int) -> Undone:
        """What ``restore`` or ``revert`` answered when it recorded ``version``.

        It was planned on the version before, so the same conflicts are found there. The patch
        is not told again.
        """
        recorded = self._lookup.change(version)
        told = Undone(version - 1, {}, recorded.changes, version=version)
        verb, _, source = (recorded.origin or "").partition(":v")
        if verb != "revert":
            return told
        before, change = (
            self._lookup.standing(version - 1, "version"),
            self._lookup.change(int(source)),
        )
        return replace(told, conflicts=find_conflicts(before, change, self._last(before, change)))

    def _last(self, standing: Standing, change: RecordedChange) -> dict[str, int]:
        """The version that changed each field of ``change`` last, as of ``standing``."""
        last = self._lookup.last_changes(standing.version, list(change.changes))
        return {path: one.version for path, one in last.items()}

    def _standing(self, if_version: int | None) -> Standing:
        standing = self._lookup.standing(None, "to")
        if if_version is not None and standing.version != if_version:
            raise VersionMismatch((if_version,), standing.version)
        return standing


def _range_in(place: dict[str, Any]) -> tuple[int, int, datetime | None, datetime | None]:
    try:
        since, until = (
            timestamps.parse(place[end]) if end in place else None for end in ("since", "until")
        )
        return int(place["first"]), int(place["last"]), since, until
    except (KeyError, ValueError, TypeError):
        raise InvalidInput("cursor", "is not one that an earlier page gave as its next") from None
