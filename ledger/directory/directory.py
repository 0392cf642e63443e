"""The directory: who and what the ledger knows besides the settings themselves."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from uuid import UUID, uuid4

from cachetools import LRUCache

from ledger.database import Database
from ledger.directory import apps, appsecrets, installations, sites
from ledger.directory.checks import checked_name, checked_scopes
from ledger.directory.heads import locked_head
from ledger.directory.rows import App, Installation, NewApp, Site
from ledger.directory.subscribers import Subscribers
from ledger.errors import AlreadyExists, ConfigError, NotFound
from ledger.identity import Identity
from ledger.secrets import Keyring

REMEMBERED_SITES = 100_000
KEYRING_FACT = "keyring_check"
OPERATOR_FACT = "operator_wix_user_id"
LEDGER_FACT = "ledger_id"


class Directory(Subscribers):
    """Every method is one transaction, safe to call from any thread.

    Where an app begins or stops to receive, the partition's head is read under the
    partition's shared lock in the transaction that records it: an event appended before has
    its position at or below that head, one appended after stands above it.
    """

    def __init__(self, database: Database, keyring: Keyring) -> None:
        super().__init__(database, keyring)
        self._sites: LRUCache[UUID, Site] = LRUCache(REMEMBERED_SITES)
        self._sites_lock = Lock()

    def verify_keyring(self) -> None:
        """Raise ConfigError where this database was set up with another secret key.

        The first one to ask decides which key that is.
        """
        with self._database.connection() as connection:
            mine = f"{self._keyring.key_id}:{self._keyring.check_value}"
            recorded = sites.fact_once(connection, KEYRING_FACT, mine)
        if recorded != mine:
            raise ConfigError(
                f"This database was set up with the secret key {recorded.partition(':')[0]}, and "
                f"the one in use is {self._keyring.key_id}: set LEDGER_SECRET_KEY to the same on "
                "every server, or bring back the secret.key file."
            )

    def operator(self) -> Identity:
        """The operator of this installation: a WIX_USER made once."""
        with self._database.connection() as connection:
            return Identity.wix_user(sites.fact_once(connection, OPERATOR_FACT, str(uuid4())))

    def ledger_id(self) -> str:
        """The ledger's own name, a UUID made once: who issues its tokens."""
        with self._database.connection() as connection:
            return sites.fact_once(connection, LEDGER_FACT, str(uuid4()))

    # Sites

    def partitions(self) -> list[int]:
        """Every partition, in order."""
        with self._database.connection() as connection:
            return sites.partitions(connection)

    def create_site(self, site_id: UUID | None = None, name: str | None = None) -> Site:
        """Record a site and choose its partition for ever. Raises AlreadyExists."""
        chosen = site_id or uuid4()
        checked = None if name is None else checked_name(name)
        with self._database.connection() as connection:
            partitions = sites.partitions(connection)
            partition = partitions[chosen.int % len(partitions)]
            site = sites.insert_site(connection, chosen, partition, checked)
        if site is None:
            raise AlreadyExists(f"The site {chosen} exists already.")
        return site

    def site(self, site_id: UUID) -> Site:
        """The site, remembered in this process. Raises NotFound."""
        remembered = self.remembered_site(site_id)
        if remembered is not None:
            return remembered
        with self._database.connection() as connection:
            site = sites.find_site(connection, site_id)
        if site is None:
            raise NotFound("site", site_id)
        with self._sites_lock:
            self._sites[site_id] = site
        return site

    def remembered_site(self, site_id: UUID) -> Site | None:
        """The site if this process remembers it: no waiting."""
        with self._sites_lock:
            return self._sites.get(site_id)

    def sites(self) -> list[Site]:
        """Every site, oldest first."""
        with self._database.connection() as connection:
            return sites.list_sites(connection)

    # Apps

    def create_app(self, name: str, scopes: Iterable[str], app_id: UUID | None = None) -> NewApp:
        """Record an app with its key pair. Raises InvalidInput and AlreadyExists."""
        chosen = app_id or uuid4()
        checked, granted = checked_name(name), checked_scopes(scopes)
        key = apps.new_signing_key(chosen)
        with self._database.connection() as connection:
            if not apps.insert_app(connection, chosen, checked, granted):
                raise AlreadyExists(f"The app {chosen} exists already.")
            _, secret = appsecrets.insert_secret(connection, chosen)
            apps.insert_signing_key(connection, key, self._keyring)
        return NewApp(chosen, secret, key.public_key_pem, key.kid)

    def app(self, app_id: UUID) -> App:
        """The app. Raises NotFound."""
        with self._database.connection() as connection:
            app = apps.find_app(connection, app_id)
        if app is None:
            raise NotFound("app", app_id)
        return app

    def apps(self) -> list[App]:
        """Every app, oldest first."""
        with self._database.connection() as connection:
            return apps.list_apps(connection)

    # Installations

    def install(self, app_id: UUID, site_id: UUID) -> Installation:
        """Install: the app receives what is appended from now on.

        Raises NotFound for app or site, AlreadyExists where it is installed there.
        """
        app, site = self.app(app_id), self.site(site_id)
        with self._database.connection() as connection:
            position = locked_head(connection, site.partition)
            installation = installations.insert_installation(
                connection, uuid4(), app.app_id, site, position
            )
        if installation is None:
            raise AlreadyExists(f"The app {app_id} is installed on the site {site_id} already.")
        return installation

    def uninstall(self, instance_id: UUID) -> Installation:
        """End an installation at the present head. Raises NotFound, also when it had ended."""
        partition = self.installation(instance_id).partition
        with self._database.connection() as connection:
            position = locked_head(connection, partition)
            if not installations.end_installation(connection, instance_id, position):
                raise NotFound("installed app instance", instance_id)
        return self.installation(instance_id)

    def installation(self, instance_id: UUID) -> Installation:
        """The installation, ended or not. Raises NotFound."""
        with self._database.connection() as connection:
            installation = installations.find_installation(connection, instance_id)
        if installation is None:
            raise NotFound("installed app instance", instance_id)
        return installation

    def installations(
        self, app_id: UUID | None = None, site_id: UUID | None = None, *, ended: bool = False
    ) -> list[Installation]:
        """Installations, oldest first, of one app or site if named; ``ended`` includes those."""
        with self._database.connection() as connection:
            return installations.list_installations(connection, app_id, site_id, ended=ended)
