"""Commands over all sites: search, export, replay."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from ledger.cli.opening import opened
from ledger.cli.options import (
    ByOption,
    FieldOption,
    KindsOption,
    PositionsOption,
    SinceOption,
    SitesOption,
    UntilOption,
    from_positions,
    naming,
    wrong,
)
from ledger.cli.output import AsJson, document, progress, show
from ledger.cli.timeline import entry

if TYPE_CHECKING:
    from ledger.history import Change, Exported

PAGE = 50


class Format(StrEnum):
    """What an export is written as."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    OCSF = "ocsf"


def search(
    by: ByOption = None,
    field: FieldOption = None,
    new_value: Annotated[
        str | None,
        typer.Option("--value", metavar="JSON", help="What a field was set to; or plain text."),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    origin: Annotated[
        str | None, typer.Option(metavar="O", help="restore, or the whole of restore:v3.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="W", help="Part of the reason, in any case.")
    ] = None,
    sites: SitesOption = None,
    kinds: KindsOption = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Changes on a page.")] = PAGE,
    cursor: Annotated[
        str | None, typer.Option(metavar="C", help="The next page, with the same options.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find changes of all sites by who, what, when and why; newest first."""
    from ledger.cli.assignments import plain_value
    from ledger.history import page_json
    from ledger.history.table import ABSENT

    with opened() as ledger, naming(**_OPTIONS):
        page = ledger.audit.search(
            by=by,
            field=field,
            value=ABSENT if new_value is None else plain_value(new_value),
            since=since,
            until=until,
            origin=origin,
            text=text,
            kinds=kinds or None,
            sites=sites or None,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        document(page_json(page))
        return
    for change in page:
        show(entry(change, located=True), "")
    if not page:
        show("No change matches.")
    if page.next is not None:
        # As one line whatever the width, so that it can be pasted.
        typer.echo(f"There are more: repeat the options with --cursor {page.next}")


def replay(
    from_position: PositionsOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    sites: SitesOption = None,
    kinds: KindsOption = None,
    as_json: AsJson = False,
) -> None:
    """Show every change in the order of the log, one partition after the other."""
    with opened() as ledger, naming(**_OPTIONS):
        changes = ledger.replay(
            from_positions(from_position),
            since=since,
            until=until,
            sites=sites or None,
            kinds=kinds or None,
        )
        if as_json:
            _write_array(changes)
            return
        for change in changes:
            show(entry(change, located=True), "")


def export(
    file: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Where to write; - is stdout.")
    ],
    format_name: Annotated[Format, typer.Option("--format", help="How.")] = Format.NDJSON,
    from_position: PositionsOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    sites: SitesOption = None,
    kinds: KindsOption = None,
    as_json: AsJson = False,
) -> None:
    """Write every change to a file, in the order of the log, and say where to go on next time.

    The file is there once it is whole.
    """
    if file == "-" and as_json:
        raise typer.BadParameter("--json needs stdout for itself: name a file by --out.")
    with (
        opened() as ledger,
        naming(**_OPTIONS),
        _written(file) as out,
        progress("Exporting") as bar,
    ):
        exported = ledger.audit.export(
            out,
            format_name.value,
            from_position=from_positions(from_position),
            since=since,
            until=until,
            sites=sites or None,
            kinds=kinds or None,
            progress=bar,
        )
    if as_json:
        told = {"format": format_name.value, "out": file, "events": exported.events}
        document(told | {"next_position": exported.next_position})
    elif file != "-":
        _show_exported(exported, file)


_OPTIONS = {
    **{name: f"--{name}" for name in ("by", "field", "since", "until", "origin", "text")},
    **{name: f"--{name}" for name in ("limit", "cursor", "value", "format")},
    "from_position": "--from-position",
    "sites": "--site",
    "kinds": "--kind",
}


def _write_array(changes: Iterator[Change]) -> None:
    """One JSON document, written as it is read: there may be more of it than memory."""
    mark = "["
    for change in changes:
        told: dict[str, Any] = {"partition": change.partition, **change.json(located=True)}
        sys.stdout.write(f"{mark}\n{json.dumps(told, ensure_ascii=False)}")
        mark = ","
    sys.stdout.write("[]\n" if mark == "[" else "\n]\n")
    sys.stdout.flush()


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Where to write: a file beside the one that is named, which it replaces once it is whole."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(file)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(target)
    except OSError as error:
        wrong("--out", f"cannot write {file}: {error.strerror}")
    finally:
        part.unlink(missing_ok=True)


def _show_exported(exported: Exported, file: str) -> None:
    places = exported.next_position
    one = len(places) == 1
    show(f"Wrote {exported.events} changes to {file}.")
    again = [f"{place}" if one else f"{name}:{place}" for name, place in places.items()]
    show("What comes later: " + " ".join(f"--from-position {place}" for place in again))
