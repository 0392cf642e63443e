"""Changes as people read them: when, who on whose behalf, what from → to, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ledger.cli.output import age, moment, value

if TYPE_CHECKING:
    from rich.text import Text

    from ledger.history import Blame, Change
    from ledger.identity import Identity

INDENT = "    "


def entry(change: Change, *, located: bool = False) -> Text:
    """A change on a few lines; ``located`` says on which site, too."""
    from rich.text import Text

    place = f"{change.site_id}  {change.kind}"
    return block(
        Text.assemble(_version(change.version), "  ", when(change.timestamp)),
        *([Text(place)] if located else []),
        *credit(change),
        *difference(change.changes),
    )


def holding(path: str, owed: Blame) -> Text:
    """A field with its value, and whom it owes that to."""
    from rich.text import Text

    held = (visible(value(owed.value)), "green")
    title = Text.assemble(f"{visible(path)}: ", held, "  ", _version(owed.version))
    return block(title, when(owed.timestamp), *credit(owed))


def block(title: Text, *lines: Text) -> Text:
    """Lines under a title, indented."""
    from rich.text import Text

    return Text("\n").join([title, *(Text.assemble(INDENT, line) for line in lines)])


def when(at: datetime) -> Text:
    """A moment, and how long ago that is."""
    from rich.text import Text

    return Text.assemble(moment(at), (f"  {age(at)}", "dim"))


def credit(owed: Change | Blame) -> Iterable[Text]:
    """Who did it for whom and through what, and why: a line each."""
    from rich.text import Text

    nobody = "the creation" if owed.version else "a default: nothing was recorded by then"
    who = Text(_name(owed.actor) if owed.actor else nobody, style="yellow")
    if owed.on_behalf_of:
        who.append(" on behalf of ", style="default dim")
        who.append(_name(owed.on_behalf_of))
    via = getattr(owed, "via", None)
    if via is not None:
        credential = f", {via.credential}" if via.credential else ""
        claimed = ", as claimed" if via.asserted else ""
        who.append(f"  through {via.channel}{credential}{claimed}", style="default dim")
    yield who
    if owed.reason is not None:
        yield Text.assemble(("because: ", "dim"), (visible(owed.reason), "italic"))
    if owed.origin is not None:
        yield Text.assemble(("origin: ", "dim"), visible(owed.origin))


def difference(changes: Mapping[str, Mapping[str, Any]]) -> Iterable[Text]:
    """One line a field: ``createInvoice: false → true``; an end that was absent shows as –."""
    from rich.text import Text

    for path, ends in changes.items():
        yield Text.assemble(
            f"{visible(path)}: ", (_end(ends, "from"), "red"), " → ", (_end(ends, "to"), "green")
        )
    if not changes:
        yield Text("no value differs", style="dim")


def visible(text: str) -> str:
    """``text`` with what a terminal would obey, and not show, written as its escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _version(number: int) -> tuple[str, str]:
    return f"v{number}", "bold cyan"


def _name(identity: Identity) -> str:
    return f"{identity.type} {visible(identity.id)}"


def _end(ends: Mapping[str, Any], name: str) -> str:
    return visible(value(ends[name])) if name in ends else "–"
