"""A site's settings of one kind in the hand of a program: read, change, look back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from ledger.aggregate import SettingsRecord
from ledger.errors import InvalidSettings, Violation
from ledger.history import Horizon, Recorder, SiteHistory
from ledger.history.sites import SiteRow
from ledger.identity import Identity, Provenance, Via
from ledger.settings import SettingsKind


class Records(Protocol):
    """What this module asks of a ledger."""

    @property
    def horizon(self) -> Horizon:
        """How far reads look."""

    @property
    def operator(self) -> Identity:
        """Who acts where nobody is named."""

    def get(self, site_id: UUID, kind: SettingsKind) -> SettingsRecord:
        """The current settings."""

    def update(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any],
        provenance: Provenance,
        *,
        if_match: Sequence[int] | None = None,
    ) -> SettingsRecord:
        """Change settings and wait until the change is durable."""


class SiteHandle:
    """One site's settings of one kind, for use as a library."""

    def __init__(self, ledger: Records, site: SiteRow, kind: SettingsKind) -> None:
        self._ledger = ledger
        self.site_id = site.site_id
        self.kind = kind
        recorder = Recorder(self._record, lambda: ledger.operator)
        self.history = SiteHistory(ledger.horizon, site, kind, recorder)

    def settings(self) -> dict[str, Any]:
        """The values as they stand, all of them."""
        return self.record().settings

    def record(self) -> SettingsRecord:
        """The values with version, position and dates."""
        return self._ledger.get(self.site_id, self.kind)

    def update(
        self,
        patch: Mapping[str, Any] | None,
        *,
        reason: str | None = None,
        by: Identity | None = None,
        if_version: int | None = None,
    ) -> SettingsRecord:
        """Lay ``patch`` over the settings and return them; durable once this returns.

        ``by`` is who acts (default: the installation's operator), recorded as asserted.
        Raises InvalidSettings with every broken rule, VersionMismatch where the settings are
        not at ``if_version``, Unavailable (surely not recorded) and OutcomeUnknown.
        """
        if patch is None:
            # The ledger takes None for "see that they exist"; here it is a mistake.
            raise InvalidSettings([Violation(self.kind.wrapper, "is required", "REQUIRED_FIELD")])
        via = Via("library", asserted=by is not None)
        provenance = Provenance(by or self._ledger.operator, via, reason=reason)
        if_match = None if if_version is None else (if_version,)
        return self._ledger.update(self.site_id, self.kind, patch, provenance, if_match=if_match)

    def _record(
        self, patch: Mapping[str, Any], provenance: Provenance, if_version: int
    ) -> SettingsRecord:
        return self._ledger.update(
            self.site_id, self.kind, patch, provenance, if_match=(if_version,)
        )
