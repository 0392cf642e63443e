"""Commands that look back on one site: history, show, diff, blame."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli.opening import opened
from ledger.cli.options import (
    ORDERS,
    TIMES,
    ByOption,
    FieldOption,
    KindOption,
    SinceOption,
    SiteArgument,
    UntilOption,
    naming,
)
from ledger.cli.output import AsJson, age, document, fields, moment, show, value
from ledger.cli.timeline import difference, entry, holding, visible

if TYPE_CHECKING:
    from ledger.history import Page, Snapshot
    from ledger.history.changes import Change

SHOWN = 50
"""Changes that people get to see who did not say how many."""

At = Annotated[str | None, typer.Option("--at", metavar="WHEN", help=f"v12, {TIMES}.")]
WHEN = f"SITE or SITE@WHEN: v12, {TIMES}."


class Order(StrEnum):
    """Which changes come first."""

    NEWEST = "newest"
    OLDEST = "oldest"


def history(
    site: SiteArgument,
    since: SinceOption = None,
    until: UntilOption = None,
    field: FieldOption = None,
    by: ByOption = None,
    from_version: Annotated[
        int | None, typer.Option(metavar="N", help="Not before this version.")
    ] = None,
    to_version: Annotated[
        int | None, typer.Option(metavar="N", help="Not after this version.")
    ] = None,
    order: Annotated[Order, typer.Option(help="Which changes come first.")] = Order.NEWEST,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"How many at most; {SHOWN} on a screen, else all."),
    ] = None,
    kind: KindOption = ORDERS,
    as_json: AsJson = False,
) -> None:
    """Show who changed a site's settings, when, what and why; newest first."""
    from ledger.kinds import kind_named

    with opened() as ledger, naming(**_same("since", "until", "field", "by", "limit"), **_VERSIONS):
        page = ledger.site(site, kind_named(kind)).history.changes(
            from_version,
            to_version,
            since=since,
            until=until,
            field=field,
            by=by,
            order=order,
            limit=SHOWN if limit is None and not as_json else limit,
        )
    if as_json:
        document([change.json() for change in page])
    else:
        _show_page(page, order)


def show_settings(
    site: SiteArgument,
    at: At = None,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="At this version; 0: before any change.")
    ] = None,
    kind: KindOption = ORDERS,
    as_json: AsJson = False,
) -> None:
    """Show a site's settings as they stand, or as they stood at any time or version."""
    from ledger.kinds import kind_named

    if at is not None and version is not None:
        raise typer.BadParameter("name either a time by --at or a version by --version.")
    with opened() as ledger, naming(at="--at", version="--version"):
        past = ledger.site(site, kind_named(kind)).history
        snapshot = past.at(at) if version is None else past.at_version(version)
    if as_json:
        document(snapshot.json())
    else:
        _show_snapshot(snapshot)


def diff(
    left: Annotated[str, typer.Argument(metavar="LEFT", help=WHEN)],
    right: Annotated[
        str | None, typer.Argument(metavar="RIGHT", help="The same; by default LEFT's site now.")
    ] = None,
    kind: KindOption = ORDERS,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two moments of a site, or between two sites, as from → to."""
    from ledger.kinds import kind_named

    other = right or left.partition("@")[0]
    with opened() as ledger, naming(left="LEFT", a="LEFT", right="RIGHT", b="RIGHT"):
        found = ledger.diff(left, other, kind_named(kind))
    if as_json:
        document(found.json())
        return
    for side, snapshot in (("from", found.left), ("to  ", found.right)):
        at = f"v{snapshot.version} of {moment(snapshot.timestamp)} ({age(snapshot.timestamp)})"
        show(f"{side} {snapshot.site_id}, {at}")
    show("", *difference(found.changes))


def blame(
    site: SiteArgument, at: At = None, kind: KindOption = ORDERS, as_json: AsJson = False
) -> None:
    """Show for every field its value, and who set it, when and why."""
    from ledger.kinds import kind_named

    with opened() as ledger, naming(at="--at"):
        found = ledger.site(site, kind_named(kind)).history.blame(at)
    if as_json:
        document({path: owed.json() for path, owed in found.items()})
        return
    for path, owed in found.items():
        show(holding(path, owed))


_VERSIONS = {"from_version": "--from-version", "to_version": "--to-version"}


def _same(*names: str) -> dict[str, str]:
    return {name: f"--{name}" for name in names}


def _show_page(page: Page[Change], order: Order) -> None:
    if not page:
        show("No change matches.")
        return
    for change in page:
        show(entry(change), "")
    if page.next is not None:
        last = page[-1].version
        more = f"--to-version {last - 1}" if order is Order.NEWEST else f"--from-version {last + 1}"
        show(f"There are more: go on with {more}.")


def _show_snapshot(snapshot: Snapshot) -> None:
    shown = {name: visible(value(item)) for name, item in _flat(snapshot.settings)}
    told = f"version {snapshot.version}, position {snapshot.position}, recorded"
    if snapshot.version == 0:
        told = "version 0, the defaults: nothing was recorded since the site was created"
    show(fields(shown), f"\n{told} {moment(snapshot.timestamp)} ({age(snapshot.timestamp)})")


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, item in settings.items():
        if isinstance(item, dict):
            pairs += _flat(item, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, item))
    return pairs
