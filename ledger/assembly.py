"""The composition root: a whole ledger built from config; the one place that knows all rooms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from ledger import verification
from ledger.aggregate import SettingsRecord
from ledger.application import SettingsLedger
from ledger.config import Config, load_config
from ledger.database import Database, role_of, translated_errors
from ledger.directory import Directory
from ledger.doorbell import Doorbell
from ledger.embedded import EmbeddedServer
from ledger.embedded.cluster import SERVER
from ledger.errors import InvalidInput, SchemaOutdated
from ledger.history import SiteHistory
from ledger.idempotency import Idempotency
from ledger.identity import Identity, Provenance, Via
from ledger.kinds import load_kinds
from ledger.migrate import check_schema, migrate
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.secrets import Keyring
from ledger.settings import SettingsKind
from ledger.writer import Writer
from projections.current import CurrentSettingsTable

if TYPE_CHECKING:
    from types import TracebackType

Progress = Callable[[str], None]


class Ledger:
    """Settings, their whole history and the directory around them, on one database.

    Open it with ``Ledger.open()`` and use it as a context manager. Safe to use from any
    number of threads. The library is trusted: it acts as whoever the caller names, by default
    as the operator of this installation.
    """

    def __init__(self, config: Config, database: Database, keyring: Keyring) -> None:
        self.config = config
        self.database = database
        self.keyring = keyring
        self.directory = Directory(database, keyring)
        self.current = CurrentSettingsTable()
        self._doorbell = Doorbell(database)
        self._applications: dict[int, SettingsLedger] = {}
        self._building = Lock()
        self._held = ExitStack()

    @classmethod
    def open(
        cls, config: Config | None = None, *, progress: Progress | None = None, **overrides: object
    ) -> Ledger:
        """Open the ledger that the environment names; ``overrides`` are fields of Config.

        Without a database URL the embedded server of the data directory is started, or joined,
        and migrated. Raises ConfigError (SchemaOutdated for a database that needs
        `settings-ledger migrate`) and DatabaseUnavailable.
        """
        config = config or load_config(**overrides)
        load_kinds(config.kinds)
        held = ExitStack()
        try:
            url = config.database_url or _embedded_url(held, config, progress)
            database = held.enter_context(Database(url, pool_size=config.pool_size))
            # Not through the pool: that would wait for a database that refuses, and not say why.
            with database.connect("opening") as connection:
                check_schema(connection)
            ledger = cls(config, database, Keyring.from_config(config))
            ledger.directory.verify_keyring()
        except BaseException:
            held.close()
            raise
        ledger._held = held
        return ledger

    @property
    def database_url(self) -> str:
        """Where the data is: a URL for psycopg, psql and pgbench."""
        return self.database.url

    @cached_property
    def operator(self) -> Identity:
        """Who acts where nobody is named: the operator of this installation."""
        return self.directory.operator()

    def application(self, partition: int) -> SettingsLedger:
        """The application over one partition."""
        with self._building:
            if partition not in self._applications:
                writer = Writer(
                    self.database,
                    partition,
                    self.current,
                    self._doorbell,
                    queue_size=self.config.queue_size,
                )
                self._applications[partition] = SettingsLedger(
                    self.database,
                    writer,
                    self.current,
                    unknown_fields=self.config.unknown_fields,
                    write_timeout=self.config.write_timeout,
                )
            return self._applications[partition]

    def create_site(
        self, site_id: UUID | str | None = None, name: str | None = None, *, via: Via | None = None
    ) -> SiteHandle:
        """Make a site and record its default orders settings, as the seed has it.

        Other kinds answer their defaults at version 0 until their first change records them:
        whether a kind was declared before or after the site then makes no difference, and a
        kind that nobody touches costs nothing. Raises AlreadyExists and InvalidInput.
        """
        site = self.directory.create_site(None if site_id is None else _uuid(site_id), name)
        provenance = Provenance(self.operator, via or Via("library"))
        self.submit(site.site_id, ORDERS_SETTINGS, None, provenance).result()
        return self.site(site.site_id)

    def site(self, site_id: UUID | str, kind: SettingsKind = ORDERS_SETTINGS) -> SiteHandle:
        """A site's settings of one kind. Raises NotFound and InvalidInput."""
        site = self.directory.site(_uuid(site_id))
        return SiteHandle(self, site.site_id, site.partition, kind)

    def get(self, site_id: UUID, kind: SettingsKind = ORDERS_SETTINGS) -> SettingsRecord:
        """The settings as they stand; the defaults at version 0 where none are recorded yet.

        Raises NotFound for an unknown site.
        """
        site = self.directory.site(site_id)
        record = self.application(site.partition).get(site_id, kind)
        return record or SettingsRecord(
            site_id=site_id,
            kind=kind.fqdn,
            version=0,
            partition=site.partition,
            position=0,
            leaf_hash=None,
            settings=kind.defaults(),
            created=site.created_at,
            updated=site.created_at,
        )

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
        """Hand a change to the writer of the site's partition; see ``SettingsLedger.submit``."""
        application = self.application(self.directory.site(site_id).partition)
        return application.submit(
            site_id, kind, patch, provenance, if_match=if_match, idempotency=idempotency
        )

    def update(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any],
        provenance: Provenance,
        *,
        if_match: Sequence[int] | None = None,
        idempotency: Idempotency | None = None,
    ) -> SettingsRecord:
        """Change settings and wait until the change is durable; see ``SettingsLedger.submit``."""
        return self.submit(
            site_id, kind, patch, provenance, if_match=if_match, idempotency=idempotency
        ).result()

    def verify(self, progress: verification.Progress | None = None) -> verification.Report:
        """Refold the whole log and compare it with what is served."""
        partitions = self.directory.partitions()
        return verification.verify(self.database, partitions, self.current, progress)

    def close(self) -> None:
        """Record what waits, then let go of everything."""
        for application in self._applications.values():
            application.close()
        self._doorbell.close()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SiteHandle:
    """One site's settings of one kind, for use as a library."""

    def __init__(self, ledger: Ledger, site_id: UUID, partition: int, kind: SettingsKind) -> None:
        self._ledger = ledger
        self.site_id = site_id
        self.kind = kind
        self.history = SiteHistory(ledger.database, partition, site_id, kind)

    def settings(self) -> dict[str, Any]:
        """The values as they stand, all of them."""
        return self.record().settings

    def record(self) -> SettingsRecord:
        """The values with version, position and dates."""
        return self._ledger.get(self.site_id, self.kind)

    def update(
        self,
        patch: Mapping[str, Any],
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
        via = Via("library", asserted=by is not None)
        provenance = Provenance(by or self._ledger.operator, via, reason=reason)
        if_match = None if if_version is None else (if_version,)
        return self._ledger.update(self.site_id, self.kind, patch, provenance, if_match=if_match)


def migrate_database(config: Config, *, partitions: int | None = None) -> list[str]:
    """Bring the configured database up to date as its owner; returns the files applied.

    The role of ``database_url`` gets the privileges that serving needs, unless it is the owner.
    """
    if config.owner_url is None:
        with EmbeddedServer.open(config.data_dir) as server:
            return migrate(server.owner_url, serving_role=SERVER, partitions=partitions)
    serving = role_of(config.database_url) if config.database_url else None
    if serving == role_of(config.owner_url):
        serving = None
    return migrate(config.owner_url, serving_role=serving, partitions=partitions)


def _uuid(site_id: UUID | str) -> UUID:
    try:
        return UUID(str(site_id))
    except ValueError:
        raise InvalidInput("site_id", "expected a UUID") from None


def _embedded_url(held: ExitStack, config: Config, progress: Progress | None) -> str:
    server = held.enter_context(EmbeddedServer.open(config.data_dir, progress=progress))
    try:
        with Database(server.server_url) as database, database.connection() as connection:
            check_schema(connection)
    except SchemaOutdated:
        migrate(server.owner_url, serving_role=SERVER)
    return server.server_url
