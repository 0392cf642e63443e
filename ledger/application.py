"""The application over one partition: create, get and update a site's settings."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import ApplicationRecorder, EventStore, Mapper
from eventsourcing.utils import Environment, EnvType

from ledger.actors import check_reason
from ledger.aggregate import SettingsRecord, originator_id
from ledger.batch import CurrentSettings
from ledger.canonical import text_problem
from ledger.commands import SettingsCommand, deadline_in
from ledger.database import Database
from ledger.directory import Site
from ledger.errors import InvalidInput
from ledger.idempotency import Idempotency
from ledger.identity import Identity, Provenance
from ledger.latch import Latch
from ledger.mapper import SettingsMapper
from ledger.recorder import CurrentSnapshots, PartitionLog, SnapshotMapper
from ledger.settings import SettingsKind, UnknownFields
from ledger.writer import Writer

# Admits ids and tags such as `restore:v3`, and no prose: an event holds no personal data.
LONGEST_ID = 256
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}")

# Nothing of the process's environment gets in: a COMPRESSOR_TOPIC in someone's shell would
# otherwise change the bytes that are stored.
_ENVIRONMENT = {"PERSISTENCE_MODULE": "eventsourcing.popo", "IS_SNAPSHOTTING_ENABLED": "y"}


class SettingsLedger(Application[UUID]):
    """Settings of the sites of one partition.

    ``repository.get(id)`` rebuilds from the current row, ``repository.get(id, version=n)``
    from the events alone. Changes go through the partition's writer.
    """

    is_snapshotting_enabled = True

    def __init__(
        self,
        database: Database,
        writer: Writer,
        current: CurrentSettings,
        *,
        unknown_fields: UnknownFields = "refuse",
        write_timeout: float = 10.0,
    ) -> None:
        self._database = database
        self._writer = writer
        self._current = current
        self._unknown_fields = unknown_fields
        self._write_timeout = write_timeout
        self.partition = writer.partition
        super().__init__()

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:  # noqa: ARG002
        """The same environment in every process."""
        return Environment(name, _ENVIRONMENT)

    def construct_mapper(self) -> Mapper[UUID]:
        """The owner of the stored bytes."""
        return SettingsMapper()

    def construct_recorder(self) -> ApplicationRecorder:
        """The log of this partition."""
        return PartitionLog(self._database, self._writer, timeout=self._write_timeout)

    def construct_snapshot_store(self) -> EventStore[UUID]:
        """The current rows."""
        recorder = CurrentSnapshots(self._database, self.partition, self._current)
        return EventStore(SnapshotMapper(), recorder)

    def get_all(self, sites: Collection[Site], kind: SettingsKind) -> dict[UUID, SettingsRecord]:
        """The settings of sites as they stand; where none are recorded, the defaults at version 0."""
        keys = [originator_id(site.site_id, kind.fqdn) for site in sites]
        with self._database.connection() as connection:
            rows = self._current.select(connection, self.partition, keys)
            found = self._current.records_in(rows)
        return {
            site.site_id: found.get(key) or _unrecorded(site, kind)
            for site, key in zip(sites, keys, strict=True)
        }

    def submit(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any] | None,
        provenance: Provenance,
        *,
        if_match: Sequence[int] | None = None,
        idempotency: Idempotency | None = None,
    ) -> Future[SettingsRecord]:
        """Hand a change to the writer; the future holds the settings after it.

        ``patch`` None only sees to it that the settings exist. Raises InvalidSettings,
        InvalidInput and Unavailable at once; the future raises VersionMismatch,
        IdempotencyConflict, ChangeRefused, Unavailable and OutcomeUnknown.
        """
        future: Future[SettingsRecord] = Future()
        command = self._command(site_id, kind, patch, provenance, if_match, idempotency, future)
        self._writer.submit(command)
        return future

    def update(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any] | None,
        provenance: Provenance,
        *,
        if_match: Sequence[int] | None = None,
        idempotency: Idempotency | None = None,
    ) -> SettingsRecord:
        """The same, waited for. Raises all that ``submit`` and its future raise."""
        latch: Latch[SettingsRecord] = Latch()
        command = self._command(site_id, kind, patch, provenance, if_match, idempotency, latch)
        self._writer.record(command)
        return latch.result()

    def _command(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any] | None,
        provenance: Provenance,
        if_match: Sequence[int] | None,
        idempotency: Idempotency | None,
        future: Future[SettingsRecord] | Latch[SettingsRecord],
    ) -> SettingsCommand:
        """The change, once its parts were found to be in order."""
        _check_provenance(provenance)
        if idempotency is not None:
            _check_text("idempotency key", idempotency.key)
            _check_text("credential", idempotency.credential)
        if patch is not None:
            patch = kind.validate_patch(patch, unknown_fields=self._unknown_fields)
        return SettingsCommand(
            deadline=deadline_in(self._write_timeout),
            future=future,
            site_id=site_id,
            kind=kind,
            patch=patch,
            provenance=provenance,
            if_match=if_match,
            idempotency=idempotency,
        )

    def __del__(self) -> None:
        """Nothing: the library would close here, and wait for threads that may be gone by then."""

    def close(self) -> None:
        """Record what waits, then stop."""
        self._writer.close()
        super().close()


def _unrecorded(site: Site, kind: SettingsKind) -> SettingsRecord:
    return SettingsRecord(
        site_id=site.site_id,
        kind=kind.fqdn,
        version=0,
        partition=site.partition,
        position=0,
        leaf_hash=None,
        settings=kind.defaults(),
        created=site.created_at,
        updated=site.created_at,
    )


def _check_provenance(provenance: Provenance) -> None:
    check_reason(provenance.reason)
    for name, tag in (("origin", provenance.origin), ("request_id", provenance.request_id)):
        if tag is not None and not _TAG.fullmatch(tag):
            raise InvalidInput(name, "expected 1 to 128 letters, digits and ._:/+-")
    named: tuple[tuple[str, object], ...] = (
        ("actor", provenance.actor),
        ("on_behalf_of", provenance.on_behalf_of),
    )
    for name, who in named:
        if isinstance(who, Identity):
            _check_text(name, who.id)
        elif who is not None or name == "actor":
            raise InvalidInput(name, "expected an Identity")
    if provenance.via.credential is not None:
        _check_text("credential", provenance.via.credential)


def _check_text(name: str, text: str) -> None:
    if not 1 <= len(text) <= LONGEST_ID:
        raise InvalidInput(name, f"expected 1 to {LONGEST_ID} characters")
    if (problem := text_problem(text)) is not None:
        raise InvalidInput(name, problem)
