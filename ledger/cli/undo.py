"""Commands that undo by recording a new change: restore, revert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli.opening import opened
from ledger.cli.options import (
    ORDERS,
    TIMES,
    ByUserOption,
    KindOption,
    ReasonOption,
    SiteArgument,
    naming,
    provenance,
)
from ledger.cli.output import AsJson, complain, document, show, value
from ledger.cli.timeline import block, difference, visible

if TYPE_CHECKING:
    from rich.text import Text

    from ledger.history import Undone

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the change and record nothing.")]


def restore(
    site: SiteArgument,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="The settings as of this version.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="WHEN", help=f"As of then: {TIMES}.")
    ] = None,
    reason: ReasonOption = None,
    dry_run: DryRun = False,
    kind: KindOption = ORDERS,
    by_user: ByUserOption = None,
    as_json: AsJson = False,
) -> None:
    """Bring back a site's settings of an earlier version or time, as a new change.

    Nothing is rewritten: the new change names where it comes from. Without --dry-run it needs
    a --reason.
    """
    from ledger.kinds import kind_named

    if (version is None) == (at is None):
        raise typer.BadParameter("name either a version by --version or a time by --at.")
    _expect_reason(reason, dry_run=dry_run)
    source = "--at" if version is None else "--version"
    with opened() as ledger, naming(to=source, version=source, reason="--reason"):
        undone = ledger.site(site, kind_named(kind)).history.restore(
            at if version is None else version,
            reason=reason,
            dry_run=dry_run,
            provenance=provenance(ledger, by_user, reason),
        )
    _tell(undone, dry_run=dry_run, as_json=as_json)


def revert(
    site: SiteArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Whose change to undo: 12.")],
    reason: ReasonOption = None,
    dry_run: DryRun = False,
    kind: KindOption = ORDERS,
    by_user: ByUserOption = None,
    as_json: AsJson = False,
) -> None:
    """Undo what one change did, and nothing else, as a new change.

    Fields that were changed since stay as they are and are listed; where that is all of them,
    nothing is recorded and the exit status is 1. Without --dry-run it needs a --reason.
    """
    from ledger.kinds import kind_named

    number = version.removeprefix("v")
    if not number.isdecimal() or not number.isascii() or len(number) > 18:
        raise typer.BadParameter(f"VERSION: {version!r} is not a version such as 12 or v12.")
    _expect_reason(reason, dry_run=dry_run)
    with opened() as ledger, naming(version="VERSION", reason="--reason"):
        undone = ledger.site(site, kind_named(kind)).history.revert(
            int(number),
            reason=reason,
            dry_run=dry_run,
            provenance=provenance(ledger, by_user, reason),
        )
    _tell(undone, dry_run=dry_run, as_json=as_json)


def _expect_reason(reason: str | None, *, dry_run: bool) -> None:
    if reason is None and not dry_run:
        raise typer.BadParameter("say why by --reason, for the record.")


def _tell(undone: Undone, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        document(undone.json())
    else:
        _show(undone, dry_run=dry_run)
    if undone.hopeless and not dry_run:
        complain("Nothing was recorded: every field that it changed was changed since.")
        raise typer.Exit(1)


def _show(undone: Undone, *, dry_run: bool) -> None:
    from rich.text import Text

    lines = [] if undone.hopeless else list(difference(undone.changes))
    if undone.version is not None:
        show(block(Text(f"Version {undone.version}"), *lines))
    elif lines and dry_run:
        show(block(Text(f"On top of version {undone.base} this would change"), *lines))
    if undone.conflicts:
        title = "Changed since, and left as it is" if undone.patch else "Changed since"
        show(block(Text(title), *(_conflict(*item) for item in undone.conflicts.items())))


def _conflict(path: str, conflict: Mapping[str, Any]) -> Text:
    from rich.text import Text

    found = visible(value(conflict["found"])) if "found" in conflict else "–"
    by = f"  by v{conflict['version']}" if "version" in conflict else ""
    return Text.assemble(f"{visible(path)}: ", (found, "green"), (by, "dim"))
