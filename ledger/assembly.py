"""The composition root: a whole ledger built from config; the one place that knows all rooms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from ledger import verification
from ledger.acting import Acting
from ledger.aggregate import SettingsRecord
from ledger.application import SettingsLedger
from ledger.config import Config, load_config
from ledger.database import Database
from ledger.directory import Directory
from ledger.doorbell import Doorbell
from ledger.errors import AlreadyExists, InvalidInput
from ledger.handle import SiteHandle
from ledger.history import (
    Audit,
    Change,
    Difference,
    Horizon,
    Selection,
    Time,
    parse_address,
)
from ledger.idempotency import Idempotency
from ledger.identity import Identity, Provenance, Via
from ledger.kinds import load_kinds
from ledger.migrate import check_schema
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.provision import Progress, embedded_urls, migrate_database
from ledger.secrets import Keyring
from ledger.settings import SettingsKind
from ledger.writer import Writer
from projections.current import CurrentSettingsTable
from projections.history import SettingsHistoryTable
from projections.projections import Projections

if TYPE_CHECKING:
    from ledger.access import Access

__all__ = ["Ledger", "SiteHandle", "migrate_database"]


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
        self._history = SettingsHistoryTable(database)
        self.horizon = Horizon(database, self._history)
        self._owner_url = config.owner_url
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
            url, owner_url = config.database_url, config.owner_url
            if url is None:
                url, owner_url = embedded_urls(held, config, progress)
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
        ledger._owner_url = owner_url
        return ledger

    @property
    def database_url(self) -> str:
        """Where the data is: a URL for psycopg, psql and pgbench."""
        return self.database.url

    @cached_property
    def operator(self) -> Identity:
        """Who acts where nobody is named: the operator of this installation."""
        return self.directory.operator()

    @cached_property
    def access(self) -> Access:
        """The door: who a credential is."""
        # Here and not above: what verifies tokens is much, and most commands are shown none.
        from ledger.access import open_access

        return open_access(self.config, self.directory, self.keyring)

    def caller(
        self,
        authorization: str | None,
        site_id: UUID | str | None = None,
        kind: SettingsKind = ORDERS_SETTINGS,
    ) -> Acting:
        """Who holds this credential, to act with its identity and permissions and no others.

        Raises what ``Access.caller`` raises. For what it may not do itself, see ``ledger.elevate``.
        """
        caller = self.access.caller(authorization, None if site_id is None else str(site_id))
        return Acting(self, caller, kind, self.access.app_caller)

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

        Where an earlier attempt made the site and was cut off before it recorded the settings,
        asking again for the same id completes it.
        """
        chosen = None if site_id is None else _uuid(site_id)
        try:
            site = self.directory.create_site(chosen, name)
        except AlreadyExists:
            if chosen is None or self.get(chosen).version > 0:
                raise
            site = self.directory.site(chosen)
        provenance = Provenance(self.operator, via or Via("library"))
        self.submit(site.site_id, ORDERS_SETTINGS, None, provenance).result()
        return self.site(site.site_id)

    def site(self, site_id: UUID | str, kind: SettingsKind = ORDERS_SETTINGS) -> SiteHandle:
        """A site's settings of one kind. Raises NotFound and InvalidInput."""
        site = self.directory.site(_uuid(site_id))
        return SiteHandle(self, site, kind)

    def get(self, site_id: UUID, kind: SettingsKind = ORDERS_SETTINGS) -> SettingsRecord:
        """The settings as they stand; the defaults at version 0 where none are recorded yet.

        Raises NotFound for an unknown site.
        """
        return self.get_all([site_id], kind)[site_id]

    def get_all(
        self, site_ids: Iterable[UUID], kind: SettingsKind = ORDERS_SETTINGS
    ) -> dict[UUID, SettingsRecord]:
        """The same for several sites, in one query for each partition."""
        sites = [self.directory.site(site_id) for site_id in site_ids]
        records: dict[UUID, SettingsRecord] = {}
        for partition in {site.partition for site in sites}:
            there = [site for site in sites if site.partition == partition]
            records |= self.application(partition).get_all(there, kind)
        return records

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
        application = self.application(self.directory.site(site_id).partition)
        return application.update(
            site_id, kind, patch, provenance, if_match=if_match, idempotency=idempotency
        )

    @cached_property
    def audit(self) -> Audit:
        """Search and export over all sites."""
        return Audit(self.horizon, self.directory)

    def diff(self, left: str, right: str, kind: SettingsKind = ORDERS_SETTINGS) -> Difference:
        """What leads from ``SITE[@WHEN]`` to another; WHEN as in ``ledger.history.moments``.

        Raises InvalidInput and NotFound.
        """
        (a, a_when), (b, b_when) = parse_address(left, "left"), parse_address(right, "right")
        return self.site(a, kind).history.diff(a_when, b_when, of=self.site(b, kind).history)

    def replay(
        self,
        from_position: int | Mapping[int, int] = 0,
        *,
        since: Time | None = None,
        until: Time | None = None,
        sites: Iterable[UUID | str] | None = None,
        kinds: Iterable[SettingsKind | str] | None = None,
    ) -> Iterator[Change]:
        """Every change from ``from_position`` (inclusive) to the head as it stands, in log order.

        Lazily and in constant memory; one partition after the other, each by position. The
        options are checked at once. Raises InvalidInput naming the option, NotFound.
        """
        return iter(
            Selection.of(self.horizon, self.directory, from_position, since, until, sites, kinds)
        )

    @cached_property
    def projections(self) -> Projections:
        """What follows the log: status, rebuild, check, and following it."""
        return Projections(
            self.database,
            self.current,
            self._history,
            self.directory.partitions,
            lambda: self._owner_url,
        )

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

    def __exit__(self, *_: object) -> None:
        self.close()


def _uuid(site_id: UUID | str) -> UUID:
    try:
        return UUID(str(site_id))
    except ValueError:
        raise InvalidInput("site_id", "expected a UUID") from None
