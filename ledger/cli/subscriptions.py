"""Commands for subscriptions: where an app receives its webhooks, and how it proves who calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ledger.cli.apps import AppId
from ledger.cli.opening import opened
from ledger.cli.options import naming, wrong
from ledger.cli.output import AsJson, age, document, examples, fields, moment, picked, show, table

if TYPE_CHECKING:
    from ledger.directory import ClientCertificate, Subscription

subscription_commands = typer.Typer(
    no_args_is_help=True, help="Subscriptions: where an app receives its webhooks."
)

CERTIFICATE, KEY = "--client-certificate", "--client-key"
SubscriptionId = Annotated[
    UUID, typer.Argument(metavar="ID", help="As `subscription list` shows it.")
]
CertificateFile = Annotated[
    Path | None,
    typer.Option(CERTIFICATE, metavar="FILE", help="PEM to show to the receiver (mutual TLS)."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(KEY, metavar="FILE", help="Its private key, PEM; kept encrypted, never shown."),
]


@subscription_commands.command(
    "create",
    epilog=examples(
        "subscription create APP_ID \\\n    --url https://example.com/hook",
        "subscription create APP_ID \\\n    --url tls://nats.example.com/shop",
    ),
)
def create_subscription(
    app_id: AppId,
    url: Annotated[
        str,
        typer.Option(
            help="Where to POST, or nats:// or tls:// of a JetStream server; private networks "
            "need permission."
        ),
    ],
    event_type: Annotated[
        str | None, typer.Option("--event", help="By default the orders settings' update.")
    ] = None,
    client_certificate: CertificateFile = None,
    client_key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Subscribe an app to an event. Nothing is sent now; it is active at once.

    A private address must lie in a network that LEDGER_ALLOWED_NETWORKS names.
    """
    from ledger.publisher.guard import check_url

    certificate = _certificate(client_certificate, client_key)
    with opened() as ledger:
        check_url(url, ledger.config.allowed_networks)
        subscription = ledger.directory.subscribe(app_id, url, event_type, certificate)
    if as_json:
        document(picked(subscription, "subscription_id"))
    else:
        shown = {"subscription": subscription.subscription_id, "event": subscription.event_type}
        show(fields({**shown, "url": subscription.url, **_proof(subscription)}))


@subscription_commands.command(
    "update",
    epilog=examples(
        "subscription update ID --url https://example.com/new",
        "subscription update ID \\\n    --client-certificate us.crt --client-key us.key",
        "subscription update ID --no-client-certificate",
    ),
)
def update_subscription(
    subscription_id: SubscriptionId,
    url: Annotated[str | None, typer.Option(help="Where to send from now on.")] = None,
    client_certificate: CertificateFile = None,
    client_key: KeyFile = None,
    without: Annotated[
        bool,
        typer.Option("--no-client-certificate", help="Show none any more, and forget its key."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a subscription another URL or client certificate; what waits goes there, too."""
    from ledger.publisher.guard import check_url

    certificate = _certificate(client_certificate, client_key)
    if certificate is not None and without:
        raise typer.BadParameter(f"give {CERTIFICATE} or --no-client-certificate, not both")
    if url is None and certificate is None and not without:
        raise typer.BadParameter("give --url, a client certificate or --no-client-certificate")
    with opened() as ledger:
        if url is not None:
            check_url(url, ledger.config.allowed_networks)
        subscription = ledger.directory.update_subscription(
            subscription_id, url=url, client_certificate=certificate, without_certificate=without
        )
    if as_json:
        document(picked(subscription, "subscription_id", "url") | _proof(subscription))
    else:
        shown = {"subscription": subscription_id, "url": subscription.url}
        show(fields(shown | _proof(subscription)))


@subscription_commands.command("list", epilog=examples("subscription list"))
def list_subscriptions(as_json: AsJson = False) -> None:
    """List the active subscriptions, oldest first."""
    with opened() as ledger:
        subscriptions = ledger.directory.subscriptions()
    if as_json:
        names = ("subscription_id", "app_id", "event_type", "url", "created_at")
        document([picked(subscription, *names) for subscription in subscriptions])
        return
    rows = [
        (s.subscription_id, s.app_id, s.event_type, s.url, age(s.created_at)) for s in subscriptions
    ]
    show(table(("subscription", "app", "event", "url", "created"), rows))


@subscription_commands.command("show", epilog=examples("subscription show ID"))
def show_subscription(subscription_id: SubscriptionId, as_json: AsJson = False) -> None:
    """Show how a subscription is served, and why it is not where it is paused."""
    from ledger.publisher import DeliveryOperator, webhook_public_key

    with opened() as ledger:
        subscription = ledger.directory.subscription(subscription_id)
        delivery = DeliveryOperator(ledger.database).delivery(subscription_id)
        key = ledger.directory.signing_key(subscription.app_id)
    shown: dict[str, Any] = {
        **picked(subscription, "subscription_id", "app_id", "event_type", "url", "created_at"),
        **_proof(subscription),
        "kid": key.kid,
        "webhook_public_key": webhook_public_key(key.private_key_pem),
        **picked(delivery.choices, "policy", "delays", "timeout", "in_flight", "per_second"),
        "paused": delivery.paused,
        "paused_at": delivery.paused_at,
    }
    if as_json:
        document(shown)
        return
    shown["created_at"] = moment(subscription.created_at)
    if subscription.client_certificate is not None:
        shown["certificate_expires_at"] = moment(subscription.client_certificate.expires_at)
    if delivery.paused_at is not None:
        shown["paused_at"] = moment(delivery.paused_at)
    show(fields({name: value for name, value in shown.items() if value is not None}))


@subscription_commands.command("delete", epilog=examples("subscription delete SUBSCRIPTION_ID"))
def delete_subscription(
    subscription_id: SubscriptionId,
    as_json: AsJson = False,
) -> None:
    """Delete a subscription: nothing recorded from now on is sent to it."""
    with opened() as ledger:
        ledger.directory.delete_subscription(subscription_id)
    if as_json:
        document({"subscription_id": subscription_id, "deleted": True})
    else:
        show(f"Deleted {subscription_id}.")


def _proof(subscription: Subscription) -> dict[str, Any]:
    """What may be shown of the client certificate; its key never is."""
    known = subscription.client_certificate
    names = ("subject", "fingerprint", "expires_at")
    return {f"certificate_{name}": getattr(known, name, None) for name in names}


def _certificate(certificate: Path | None, key: Path | None) -> ClientCertificate | None:
    """The client certificate that these files hold. Raises InvalidInput naming the option."""
    from ledger.directory import checked_certificate

    if certificate is None and key is None:
        return None
    if certificate is None:
        wrong(CERTIFICATE, f"is needed with {KEY}")
    if key is None:
        wrong(KEY, f"is needed with {CERTIFICATE}")
    with naming(client_certificate=CERTIFICATE, client_key=KEY):
        return checked_certificate(_content(certificate, CERTIFICATE), _content(key, KEY))


def _content(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        wrong(option, f"cannot read {path}: {error.strerror}")
