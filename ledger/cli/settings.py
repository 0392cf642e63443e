"""Commands for a site's settings: get and update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ledger.cli.assignments import patch_of
from ledger.cli.opening import opened
from ledger.cli.options import ORDERS, ByUserOption, KindOption, ReasonOption, provenance
from ledger.cli.output import (
    AsJson,
    age,
    change_lines,
    document,
    examples,
    fields,
    moment,
    show,
    value,
)

if TYPE_CHECKING:
    from ledger.aggregate import SettingsRecord

settings_commands = typer.Typer(no_args_is_help=True, help="Settings: read and change them.")

SiteOption = Annotated[UUID, typer.Option("--site", help="As `site list` shows it.")]


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
    reason: ReasonOption = None,
    by_user: ByUserOption = None,
    as_json: AsJson = False,
) -> None:
    """Change a site's settings; what is not named keeps its value."""
    from ledger.kinds import kind_named

    with opened() as ledger:
        named = kind_named(kind)
        why = provenance(ledger, by_user, reason)
        record = ledger.update(site, named, patch_of(assignments), why)
        [change] = ledger.site(site, named).history.changes(record.version, record.version)
    if as_json:
        document({named.wrapper: named.reply(record.settings, record.created, record.updated)})
    else:
        lines = change_lines(change.changes) or ["No value differs; recorded all the same."]
        show(f"Version {record.version} of {site}", *(f"  {line}" for line in lines))


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
