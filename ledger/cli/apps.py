"""Commands for apps and their installations."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from ledger.cli.opening import opened
from ledger.cli.output import AsJson, age, document, examples, fields, moment, picked, show, table
from ledger.cli.sites import Scopes

app_commands = typer.Typer(no_args_is_help=True, help="Apps, which sites install.")

AppId = Annotated[UUID, typer.Argument(metavar="APP_ID", help="As `app list` shows it.")]


@app_commands.command(
    "create",
    epilog=examples("app create --name Invoices \\\n    --scope SCOPE.DC-STORES.READ-ORDERS"),
)
def create_app(
    name: Annotated[str, typer.Option(help="A name for people.")],
    scopes: Scopes,
    app_id: Annotated[
        UUID | None, typer.Option("--id", help="Its id; by default a new one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an app with its secret and the key pair that signs its webhooks."""
    with opened() as ledger:
        app = ledger.directory.create_app(name, scopes, app_id)
    if as_json:
        document(picked(app, "app_id", "app_secret", "public_key_pem", "kid"))
    else:
        show(
            fields({"app": app.app_id, "secret": app.app_secret, "kid": app.kid}),
            f"\n{app.public_key_pem}",
            "Keep the secret now: it cannot be shown again. The public key verifies the webhooks.",
        )


@app_commands.command("list", epilog=examples("app list"))
def list_apps(as_json: AsJson = False) -> None:
    """List the apps, the prefixes of their secrets, and where they are installed."""
    with opened() as ledger:
        apps, installations = ledger.directory.apps(), ledger.directory.installations()
        secrets = ledger.directory.app_secrets()
    listed = [
        picked(app, "app_id", "name", "scopes", "created_at")
        | {
            "secrets": [
                picked(secret, "prefix", "created_at", "expires_at", "revoked_at")
                for secret in secrets
                if secret.app_id == app.app_id
            ],
            "installations": [
                picked(installation, "instance_id", "site_id", "installed_at")
                for installation in installations
                if installation.app_id == app.app_id
            ],
        }
        for app in apps
    ]
    if as_json:
        document(listed)
        return
    rows = [
        (
            app["app_id"],
            app["name"],
            "\n".join(_lasting(secret) for secret in app["secrets"]),
            "\n".join(f"{i['instance_id']} on {i['site_id']}" for i in app["installations"]) or "–",
            age(app["created_at"]),
        )
        for app in listed
    ]
    show(table(("app", "name", "secrets", "instances on sites", "created"), rows))


def _lasting(secret: dict[str, Any]) -> str:
    """A secret's prefix, and until when it holds where that is limited."""
    if secret["revoked_at"] is not None:
        return f"{secret['prefix']} (revoked)"
    if secret["expires_at"] is not None:
        return f"{secret['prefix']} (until {moment(secret['expires_at'])})"
    return str(secret["prefix"])


@app_commands.command(
    "rotate-secret",
    epilog=examples("app rotate-secret APP_ID", "app rotate-secret APP_ID --overlap 0"),
)
def rotate_secret(
    app_id: AppId,
    overlap: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="How long old secrets still hold.")
    ] = 86_400,
    as_json: AsJson = False,
) -> None:
    """Make a new secret for an app; the old one holds beside it for a day, or as long as told.

    With --overlap 0, for a secret that leaked, the old ones are revoked: within five seconds
    no server takes them, or the access tokens that they got.
    """
    with opened() as ledger:
        secret = ledger.directory.rotate_secret(app_id, timedelta(seconds=overlap))
    if as_json:
        document(picked(secret, "app_id", "app_secret", "prefix"))
    else:
        show(
            fields({"app": app_id, "secret": secret.app_secret}),
            "\nKeep the secret now: it cannot be shown again.",
        )


@app_commands.command(
    "rotate-key", epilog=examples("app rotate-key APP_ID", "app rotate-key APP_ID --overlap 0")
)
def rotate_key(
    app_id: AppId,
    overlap: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="How long old keys stay published.")
    ] = 604_800,
    as_json: AsJson = False,
) -> None:
    """Make a new key pair to sign an app's webhooks; it is in use within a minute.

    Old public keys stay in /.well-known/jwks.json for a week, or as long as told, so that what
    was delivered before can still be verified. A receiver that holds the public key itself
    needs the new one at once.
    """
    with opened() as ledger:
        key = ledger.directory.rotate_key(app_id, timedelta(seconds=overlap))
    if as_json:
        document(picked(key, "app_id", "public_key_pem", "kid"))
    else:
        show(fields({"app": app_id, "kid": key.kid}), f"\n{key.public_key_pem}")


@app_commands.command("install", epilog=examples("app install APP_ID SITE_ID"))
def install(
    app_id: AppId,
    site_id: Annotated[UUID, typer.Argument(metavar="SITE_ID", help="As `site list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Install an app on a site: from now on it receives the site's events."""
    with opened() as ledger:
        installation = ledger.directory.install(app_id, site_id)
    if as_json:
        document(picked(installation, "instance_id"))
    else:
        show(fields({"instance": installation.instance_id, "app": app_id, "site": site_id}))


@app_commands.command("uninstall", epilog=examples("app uninstall INSTANCE_ID"))
def uninstall(
    instance_id: Annotated[
        UUID, typer.Argument(metavar="INSTANCE_ID", help="As `app list` shows it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Uninstall an app from a site; what was recorded until now is still delivered."""
    with opened() as ledger:
        installation = ledger.directory.uninstall(instance_id)
    if as_json:
        document(picked(installation, "instance_id", "uninstalled_at"))
    else:
        show(f"Uninstalled {installation.app_id} from the site {installation.site_id}.")
