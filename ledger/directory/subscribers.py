"""Who receives: the part of the directory that keeps subscriptions and their certificates."""

from __future__ import annotations

from uuid import UUID, uuid4

from ledger.database import Connection
from ledger.directory import apps, certificates, subscriptions
from ledger.directory.checks import check_encrypted, checked_event_type, checked_url
from ledger.directory.credentials import Credentials
from ledger.directory.heads import locked_heads
from ledger.directory.rows import ClientCertificate, Subscription
from ledger.errors import NotFound


class Subscribers(Credentials):
    """Keeps subscriptions; what holds for the directory's other methods holds for these."""

    def subscribe(
        self,
        app_id: UUID,
        url: str,
        event_type: str | None = None,
        client_certificate: ClientCertificate | None = None,
    ) -> Subscription:
        """Subscribe the app: it receives what is appended from now on, on every partition.

        Only the form of ``url`` is checked here; ``checked_certificate`` makes a client
        certificate of PEM. Raises NotFound, InvalidInput, and PermissionDenied where none of
        the app's scopes covers the event.
        """
        wanted = checked_event_type(event_type, self._scopes(app_id))
        checked, subscription_id = checked_url(url), uuid4()
        if client_certificate is not None:
            check_encrypted(checked)
        with self._database.connection() as connection:
            heads = locked_heads(connection)
            subscriptions.insert_subscription(connection, subscription_id, app_id, wanted, checked)
            for partition, position in heads.items():
                subscriptions.insert_span(connection, subscription_id, partition, position)
            if client_certificate is not None:
                certificates.put_certificate(
                    connection, subscription_id, client_certificate, self._keyring
                )
            return subscriptions.list_subscriptions(connection, subscription_id)[0]

    def subscriptions(self, *, deleted: bool = False) -> list[Subscription]:
        """Subscriptions, oldest first; ``deleted`` includes those."""
        with self._database.connection() as connection:
            return subscriptions.list_subscriptions(connection, deleted=deleted)

    def subscription(self, subscription_id: UUID) -> Subscription:
        """The subscription. Raises NotFound, also when it had ended."""
        with self._database.connection() as connection:
            return _subscription(connection, subscription_id)

    def update_subscription(
        self,
        subscription_id: UUID,
        *,
        url: str | None = None,
        client_certificate: ClientCertificate | None = None,
        without_certificate: bool = False,
    ) -> Subscription:
        """Give it another URL or client certificate, or take its certificate away.

        In use within a second; what waits to be tried again goes there, too. Raises NotFound
        and InvalidInput.
        """
        with self._database.connection() as connection:
            if url is not None:
                subscriptions.move_subscription(connection, subscription_id, checked_url(url))
            if client_certificate is not None:
                _subscription(connection, subscription_id)
                certificates.put_certificate(
                    connection, subscription_id, client_certificate, self._keyring
                )
            elif without_certificate:
                certificates.drop_certificate(connection, subscription_id)
            changed = _subscription(connection, subscription_id)
            if changed.client_certificate is not None:
                check_encrypted(changed.url)
            return changed

    def client_certificate(self, subscription_id: UUID) -> ClientCertificate | None:
        """The subscription's client certificate with its key, None where it has none."""
        with self._database.connection() as connection:
            return certificates.find_certificate(connection, subscription_id, self._keyring)

    def delete_subscription(self, subscription_id: UUID) -> None:
        """End a subscription at the present heads. Raises NotFound, also when it had ended."""
        with self._database.connection() as connection:
            heads = locked_heads(connection)
            if not subscriptions.end_subscription(connection, subscription_id):
                raise NotFound("subscription", subscription_id)
            for partition, position in heads.items():
                subscriptions.end_span(connection, subscription_id, partition, position)

    def _scopes(self, app_id: UUID) -> frozenset[str]:
        with self._database.connection() as connection:
            app = apps.find_app(connection, app_id)
        if app is None:
            raise NotFound("app", app_id)
        return app.scopes


def _subscription(connection: Connection, subscription_id: UUID) -> Subscription:
    found = subscriptions.list_subscriptions(connection, subscription_id)
    if not found:
        raise NotFound("subscription", subscription_id)
    return found[0]
