"""Options that several commands share, and errors that name them as they were typed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn
from uuid import UUID

import typer

from ledger.errors import InvalidInput

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.identity import Provenance

ORDERS = "wix.ecom.v1.orders_settings"
TIMES = '2024-07-04T15:10:46Z, "2024-07-04 17:10+02:00" or "2 days ago"'

SiteArgument = Annotated[UUID, typer.Argument(metavar="SITE", help="As `site list` shows it.")]
SitesOption = Annotated[
    list[UUID] | None, typer.Option("--site", metavar="SITE", help="Of this site; repeatable.")
]
KindOption = Annotated[str, typer.Option("--kind", metavar="FQDN", help="Which settings.")]
KindsOption = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="FQDN", help="Settings of this kind; repeatable."),
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help=f"Not before: {TIMES}.")
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Not after; a time as for --since.")
]
FieldOption = Annotated[
    str | None,
    typer.Option("--field", metavar="NAME", help="Changes of this field, or of any within it."),
]
ByOption = Annotated[
    str | None, typer.Option("--by", metavar="ID", help="Who acted, or on whose behalf.")
]
PositionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from-position",
        metavar="N",
        help="Where to begin in the log; PARTITION:N for one of several partitions, repeatable.",
    ),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why, for the record.")]
ByUserOption = Annotated[
    UUID | None,
    typer.Option("--by-user", help="The WIX_USER who acts; by default the operator here."),
]


@contextmanager
def naming(**options: str) -> Iterator[None]:
    """Name an argument that is wrong by the option that it came from, not the library's word."""
    try:
        yield
    except InvalidInput as error:
        wrong(options.get(error.name, error.name), error.expected)


def wrong(option: str, expected: str) -> NoReturn:
    """Refuse an option's value. Raises InvalidInput."""
    raise InvalidInput(option, expected) from None


def from_positions(given: list[str] | None) -> int | dict[int, int]:
    """``N``, or ``PARTITION:N`` for some partitions. Raises InvalidInput naming the option."""
    positions: dict[int, int] = {}
    for text in given or ["0"]:
        partition, colon, position = text.rpartition(":")
        if not position.isdecimal() or (colon and not partition.isdecimal()):
            wrong("--from-position", f"{text!r} is not of the form N or PARTITION:N")
        if not colon:
            if len(given or [0]) > 1:
                wrong("--from-position", "name each position as PARTITION:N, or only one for all")
            return int(position)
        positions[int(partition)] = int(position)
    return positions


def provenance(ledger: Ledger, by_user: UUID | None, reason: str | None) -> Provenance:
    """Who changes something from the command line, and why."""
    from ledger.identity import Identity, Provenance, Via

    actor = Identity.wix_user(by_user) if by_user else ledger.operator
    return Provenance(actor, Via("cli", asserted=by_user is not None), reason=reason)
