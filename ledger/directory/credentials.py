"""Credentials in the directory: API keys, apps' secrets and key pairs, and what was revoked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID, uuid4

from ledger.database import Database
from ledger.directory import apps, appsecrets, installations, keys, sites
from ledger.directory.checks import checked_scopes
from ledger.directory.rows import (
    ApiKey,
    AppSecret,
    Client,
    NewKey,
    NewSecret,
    PublicKey,
    Revocations,
    SigningKey,
)
from ledger.errors import InvalidInput, NotFound
from ledger.secrets import Keyring

SECRET_OVERLAP = timedelta(days=1)
"""How long an app's old secret holds beside the new one, by default."""
KEY_OVERLAP = timedelta(days=7)
"""How long a retired public key stays published, by default: a delivery's token lives an hour."""
LONGEST_OVERLAP = timedelta(days=3650)


class Credentials:
    """The part of the directory that gives out credentials and takes them back."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    # API keys

    def create_key(self, site_id: UUID, scopes: Iterable[str], user: UUID | None = None) -> NewKey:
        """Make a key that acts as ``user`` (a new one by default). Raises NotFound, InvalidInput."""
        granted, wix_user_id = checked_scopes(scopes), user or uuid4()
        with self._database.connection() as connection:
            if sites.find_site(connection, site_id) is None:
                raise NotFound("site", site_id)
            prefix, api_key = keys.insert_key(connection, site_id, wix_user_id, granted)
        return NewKey(api_key, prefix, site_id, wix_user_id)

    def find_key(self, token: str) -> ApiKey | None:
        """The key that this token is; None where it has not its form, is unknown or revoked."""
        if keys.prefix_of(token) is None:
            return None
        with self._database.connection() as connection:
            return keys.find_key(connection, token)

    def keys(self) -> list[ApiKey]:
        """Every key, the revoked too, oldest first."""
        with self._database.connection() as connection:
            return keys.list_keys(connection)

    def revoke_key(self, prefix: str) -> None:
        """Revoke by prefix; again is no error. Raises NotFound.

        Servers remember a key for a few seconds (see ``ledger.access``).
        """
        with self._database.connection() as connection:
            if not keys.revoke_key(connection, prefix):
                raise NotFound("API key", prefix)

    # Apps' secrets

    def app_secret_holds(self, app_id: UUID, secret: str) -> bool:
        """Whether this is a secret of the app that holds; False for an unknown app as well."""
        with self._database.connection() as connection:
            return appsecrets.matching_secret(connection, app_id, secret) is not None

    def find_client(self, app_id: UUID, secret: str, instance_id: UUID) -> Client | None:
        """The app and its installation, ended or not; None where any of the three is wrong.

        Which one was wrong is told neither by the answer nor by the time that it takes.
        """
        with self._database.connection() as connection:
            app = apps.find_app(connection, app_id)
            prefix = appsecrets.matching_secret(connection, app_id, secret)
            installation = installations.find_installation(connection, instance_id)
        if app is None or prefix is None or installation is None or installation.app_id != app_id:
            return None
        return Client(app, prefix, installation)

    def rotate_secret(self, app_id: UUID, overlap: timedelta = SECRET_OVERLAP) -> NewSecret:
        """Make a new secret for the app; its old ones hold for ``overlap`` more.

        With no overlap the old ones are revoked, and tokens that they got hold no longer (see
        ``ledger.access`` for the time that servers need to notice). Raises NotFound, InvalidInput.
        """
        _check_overlap(overlap)
        with self._database.connection() as connection:
            if not apps.lock_app(connection, app_id):
                raise NotFound("app", app_id)
            appsecrets.expire_secrets(connection, app_id, overlap)
            prefix, secret = appsecrets.insert_secret(connection, app_id)
        return NewSecret(secret, prefix, app_id)

    def app_secrets(self, app_id: UUID | None = None) -> list[AppSecret]:
        """The secrets of one app or of all, by their prefixes, oldest first; the expired too."""
        with self._database.connection() as connection:
            return appsecrets.list_secrets(connection, app_id)

    def revocations(self, within: timedelta) -> Revocations:
        """What was uninstalled or revoked within this time."""
        with self._database.connection() as connection:
            return Revocations(
                installations.select_ended(connection, within),
                appsecrets.select_revoked(connection, within),
            )

    # Apps' key pairs

    def signing_key(self, app_id: UUID) -> SigningKey:
        """The app's key pair in use, private half decrypted: parse it once. Raises NotFound."""
        with self._database.connection() as connection:
            key = apps.find_signing_key(connection, app_id, self._keyring)
        if key is None:
            raise NotFound("app", app_id)
        return key

    def rotate_key(self, app_id: UUID, overlap: timedelta = KEY_OVERLAP) -> SigningKey:
        """Make a new key pair for the app's webhooks; old public keys stay published meanwhile.

        Publishers sign with the new key within a minute. Raises NotFound and InvalidInput.
        """
        _check_overlap(overlap)
        key = apps.new_signing_key(app_id)
        with self._database.connection() as connection:
            if not apps.lock_app(connection, app_id):
                raise NotFound("app", app_id)
            apps.retire_signing_keys(connection, app_id, overlap)
            apps.insert_signing_key(connection, key, self._keyring)
        return key

    def public_keys(self, app_id: UUID | None = None) -> list[PublicKey]:
        """The public keys that are published, of one app or of all, oldest first."""
        with self._database.connection() as connection:
            return apps.list_public_keys(connection, app_id)


def _check_overlap(overlap: timedelta) -> None:
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InvalidInput("overlap", "expected 0 seconds to ten years")
