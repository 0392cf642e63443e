"""What the web asks of a ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol
from uuid import UUID

from ledger.access import Access
from ledger.aggregate import SettingsRecord
from ledger.config import Config
from ledger.database import Database
from ledger.directory import Directory
from ledger.handle import SiteHandle
from ledger.history import Horizon
from ledger.idempotency import Idempotency
from ledger.identity import Provenance
from ledger.secrets import Keyring
from ledger.settings import SettingsKind


class ServedLedger(Protocol):
    """The part of ``ledger.Ledger`` that HTTP stands on."""

    @property
    def config(self) -> Config: ...

    @property
    def database(self) -> Database: ...

    @property
    def directory(self) -> Directory: ...

    @property
    def keyring(self) -> Keyring: ...

    @property
    def access(self) -> Access: ...

    @property
    def horizon(self) -> Horizon: ...

    def site(self, site_id: UUID, kind: SettingsKind) -> SiteHandle:
        """A site's settings of one kind, with their history. Raises NotFound."""

    def get(self, site_id: UUID, kind: SettingsKind) -> SettingsRecord:
        """The current settings. May wait for the database."""

    def get_all(
        self, site_ids: Collection[UUID], kind: SettingsKind
    ) -> Mapping[UUID, SettingsRecord]:
        """The same for several sites that are there."""

    def submit(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any],
        provenance: Provenance,
        *,
        if_match: Sequence[int] | None = None,
        idempotency: Idempotency | None = None,
    ) -> Future[SettingsRecord]:
        """Hand a change to the writer. Must not wait where the directory knows the site."""
