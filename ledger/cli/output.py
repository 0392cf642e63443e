"""What the command line prints: one JSON document for programs, or words and tables for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ledger import timestamps

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]

_AGES = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def examples(*commands: str) -> str:
    """An epilog for a command's help: example calls, one a line, long ones on two."""
    return "\n".join(("Examples:", *(f"$ settings-ledger {line}" for line in commands)))


def typed() -> str:
    """How this program was called, for lines to paste: its bare name where PATH finds it."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m ledger"
    return called.name if shutil.which(called.name) == str(called) else str(called)


def document(value: object) -> None:
    """Print the one JSON document that ``--json`` promises."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(item: object) -> object:
    match item:
        case UUID():
            return str(item)
        case datetime():
            return timestamps.stored(item)
        case set() | frozenset():
            return sorted(item)
        case _:
            raise TypeError(f"{type(item).__name__} has no JSON form")


def picked(row: object, *names: str) -> dict[str, Any]:
    """The named attributes of ``row``, in this order."""
    return {name: getattr(row, name) for name in names}


def console() -> Console:
    """Where people read: stdout, in colour on a terminal, never cutting a line in a pipe."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=200)


def complain(sentence: str) -> None:
    """Say on stderr what went wrong."""
    sys.stderr.write(f"{sentence}\n")


def show(*renderables: RenderableType) -> None:
    """Print for people."""
    here = console()
    for renderable in renderables:
        here.print(renderable)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """A plain table; cells are taken literally, never as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def fields(values: Mapping[str, object]) -> Table:
    """Names on the left, values on the right."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(Text(name), Text(str(value)))
    return grid


def value(item: object) -> str:
    """A settings value as its JSON, a string without quotes."""
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def change_lines(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line a field: ``createInvoice: false → true``; an end that was absent shows as –."""
    return [
        f"{path}: {value(ends['from']) if 'from' in ends else '–'}"
        f" → {value(ends['to']) if 'to' in ends else '–'}"
        for path, ends in changes.items()
    ]


def moment(at: datetime) -> str:
    """A time as people here read it, with the zone: ``2026-03-01 14:05:09 CET``."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def age(at: datetime, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that fits: ``3 minutes ago``."""
    seconds = int(((now or datetime.now(UTC)) - at).total_seconds())
    for length, unit in _AGES:
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Say on stderr what is under way; a terminal shows it while it lasts.

    The caller gets a function that takes what has come to be waited for.
    """
    if not sys.stderr.isatty():
        yield complain
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield status.update


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for what takes over two seconds; only on a terminal.

    The caller gets a function that takes what is done and how much there is.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    began = monotonic()
    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(what, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=monotonic() - began > 2)
            bar.refresh()

        yield advance
