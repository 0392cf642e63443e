"""Commands for sites and the API keys that open them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from ledger.cli.opening import opened
from ledger.cli.output import AsJson, age, document, examples, fields, picked, show, table

site_commands = typer.Typer(no_args_is_help=True, help="Sites, whose settings are kept.")
key_commands = typer.Typer(no_args_is_help=True, help="API keys: who may read and change a site.")

Scopes = Annotated[
    list[str],
    typer.Option("--scope", help="What it may do: SCOPE.DC-STORES.MANAGE-ORDERS, …; repeatable."),
]


@site_commands.command("create", epilog=examples("site create --name 'Flower shop'"))
def create_site(
    site_id: Annotated[
        UUID | None, typer.Option("--id", help="Its id; by default a new one.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a site with the default settings."""
    from ledger.identity import Via

    with opened() as ledger:
        created = ledger.create_site(site_id, name, via=Via("cli"))
        site = ledger.directory.site(created.site_id)
    if as_json:
        document(picked(site, "site_id", "partition"))
    else:
        show(fields({"site": site.site_id, "name": site.name or "–", "partition": site.partition}))


@site_commands.command("list", epilog=examples("site list", "site list --json"))
def list_sites(as_json: AsJson = False) -> None:
    """List the sites, oldest first."""
    with opened() as ledger:
        sites = ledger.directory.sites()
    if as_json:
        document([picked(site, "site_id", "partition", "name", "created_at") for site in sites])
    else:
        rows = [
            (site.site_id, site.name or "–", site.partition, age(site.created_at)) for site in sites
        ]
        show(table(("site", "name", "partition", "created"), rows))


@key_commands.command(
    "create",
    epilog=examples("key create --site SITE \\\n    --scope SCOPE.DC-STORES.MANAGE-ORDERS"),
)
def create_key(
    site: Annotated[UUID, typer.Option(help="The one site that it opens.")],
    scopes: Scopes,
    user: Annotated[
        UUID | None, typer.Option(help="The WIX_USER as whom it acts; by default a new one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key. It is shown this once: only its hash is kept."""
    with opened() as ledger:
        key = ledger.directory.create_key(site, scopes, user)
    if as_json:
        document(picked(key, "api_key", "wix_user_id"))
    else:
        show(
            fields({"key": key.api_key, "acts as": f"WIX_USER {key.wix_user_id}"}),
            "\nKeep the key now: it cannot be shown again.",
        )


@key_commands.command("list", epilog=examples("key list"))
def list_keys(as_json: AsJson = False) -> None:
    """List the keys by prefix, the revoked too."""
    with opened() as ledger:
        keys = ledger.directory.keys()
    if as_json:
        names = ("prefix", "site_id", "wix_user_id", "scopes", "created_at", "revoked_at")
        document([picked(key, *names) for key in keys])
        return
    rows = [
        (
            key.prefix,
            key.site_id,
            key.wix_user_id,
            "\n".join(sorted(key.scopes)),
            age(key.created_at),
            age(key.revoked_at) if key.revoked_at else "–",
        )
        for key in keys
    ]
    show(table(("prefix", "site", "acts as WIX_USER", "scopes", "created", "revoked"), rows))


@key_commands.command("revoke", epilog=examples("key revoke slk_abcd2345"))
def revoke_key(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="As `key list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a key; running servers refuse it within seconds."""
    # A whole key is understood, and its secret half goes no further than here.
    prefix = "_".join(prefix.split("_")[:2])
    with opened() as ledger:
        ledger.directory.revoke_key(prefix)
    if as_json:
        document({"prefix": prefix, "revoked": True})
    else:
        show(f"Revoked {prefix}.")
