"""Commands for a site's settings and their history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ledger.cli.assignments import patch_of
from ledger.cli.opening import opened
from ledger.cli.output import (
    AsJson,
    age,
    change_lines,
    document,
    examples,
    fields,
    moment,
    show,
    table,
    value,
)

if TYPE_CHECKING:
    from ledger.aggregate import SettingsRecord
    from ledger.history import Change

settings_commands = typer.Typer(no_args_is_help=True, help="Settings: read and change them.")

ORDERS = "wix.ecom.v1.orders_settings"
SiteOption = Annotated[UUID, typer.Option("--site", help="As `site list` shows it.")]
KindOption = Annotated[str, typer.Option("--kind", metavar="FQDN", help="Which settings.")]


def _patch(assignments: list[str]) -> list[str]:
    try:
        patch_of(assignments)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return assignments


@settings_commands.command("get", epilog=examples("settings get --site SITE"))
def get_settings(site: SiteOption, kind: KindOption = ORDERS, as_json: AsJson = False) -> None:
    """Show a site's settings."""
    from ledger.kinds import kind_named

    with opened() as ledger:
        named = kind_named(kind)
        record = ledger.get(site, named)
    if as_json:
        document({named.wrapper: named.reply(record.settings, record.created, record.updated)})
    else:
        _show_settings(record)


@settings_commands.command(
    "update",
    epilog=examples(
        "settings update --site SITE --set createInvoice=true \\\n    --reason 'New law'",
        "settings update --site SITE \\\n    --set emailNotifications.orderShipped=false",
        "settings update --site SITE --set inventoryUpdateTrigger=null",
    ),
)
def update_settings(
    site: SiteOption,
    assignments: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            callback=_patch,
            help="A field and its JSON value, or plain text; null resets; repeatable.",
        ),
    ],
    kind: KindOption = ORDERS,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    by_user: Annotated[
        UUID | None,
        typer.Option(help="The WIX_USER who changes; by default this installation's operator."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a site's settings; what is not named keeps its value."""
    from ledger.identity import Identity, Provenance, Via
    from ledger.kinds import kind_named

    with opened() as ledger:
        named = kind_named(kind)
        actor = Identity.wix_user(by_user) if by_user else ledger.directory.operator()
        via = Via("cli", asserted=by_user is not None)
        provenance = Provenance(actor, via, reason=reason)
        record = ledger.update(site, named, patch_of(assignments), provenance)
        [change] = ledger.site(site, named).history.changes(record.version, record.version)
    if as_json:
        document({named.wrapper: named.reply(record.settings, record.created, record.updated)})
    else:
        lines = change_lines(change.changes) or ["No value differs; recorded all the same."]
        show(f"Version {record.version} of {site}", *(f"  {line}" for line in lines))


def history(
    site: Annotated[UUID, typer.Argument(metavar="SITE", help="As `site list` shows it.")],
    kind: KindOption = ORDERS,
    as_json: AsJson = False,
) -> None:
    """Show every change of a site's settings, newest first."""
    from ledger.kinds import kind_named

    with opened() as ledger:
        named = kind_named(kind)
        changes = ledger.site(site, named).history.changes()
    if as_json:
        document([_as_document(change) for change in changes])
    else:
        rows = [_row(change) for change in changes]
        show(table(("version", "when", "who", "changes", "why"), rows))


def _as_document(change: Change) -> dict[str, Any]:
    actor = change.actor and {"type": str(change.actor.type), "id": change.actor.id}
    told = {
        "version": change.version,
        "position": change.position,
        "timestamp": change.timestamp,
        "actor": actor,
        "changes": change.changes,
    }
    optional = {"reason": change.reason, "origin": change.origin}
    return told | {name: item for name, item in optional.items() if item is not None}


def _row(change: Change) -> tuple[object, ...]:
    created = change.version == 1
    who = (
        f"{change.actor.type} {change.actor.id}" if change.actor else ("–" if created else "erased")
    )
    lines = change_lines(change.changes) or (["created"] if created else ["no value differs"])
    why = " ".join(part for part in (change.reason, change.origin) if part)
    when = f"{moment(change.timestamp)}\n{age(change.timestamp)}"
    return (change.version, when, who, "\n".join(lines), why or "–")


def _show_settings(record: SettingsRecord) -> None:
    shown = {name: value(item) for name, item in _flat(record.settings)}
    dates = f"version {record.version}, created {moment(record.created)}, "
    show(fields(shown), f"\n{dates}updated {moment(record.updated)} ({age(record.updated)})")


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, item in settings.items():
        if isinstance(item, dict):
            pairs += _flat(item, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, item))
    return pairs
