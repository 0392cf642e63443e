"""Commands for dead letters: events that a receiver did not take in the end."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from ledger.cli.deliveries import operator_of
from ledger.cli.opening import opened
from ledger.cli.output import AsJson, age, document, examples, picked, show, table

deadletter_commands = typer.Typer(
    no_args_is_help=True, help="Dead letters: events that a receiver did not take in the end."
)

DeadLetterId = Annotated[
    int, typer.Argument(metavar="NUMBER", help="As `deadletters list` shows it.")
]


@deadletter_commands.command("list", epilog=examples("deadletters list", "deadletters list --json"))
def list_dead_letters(
    subscription_id: Annotated[
        UUID | None, typer.Option("--subscription", help="Only this subscription's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the events that were given up after their last retry, oldest first."""
    with opened() as ledger:
        letters = operator_of(ledger).dead_letters(subscription_id)
    names = (
        *("dead_letter_id", "subscription_id", "site_id", "partition", "position", "version"),
        *("attempts", "last_error", "died_at"),
    )
    if as_json:
        document([picked(letter, *names) for letter in letters])
        return
    rows = [
        (
            letter.dead_letter_id,
            letter.subscription_id,
            letter.site_id,
            letter.version,
            letter.attempts,
            letter.last_error,
            age(letter.died_at),
        )
        for letter in letters
    ]
    headings = ("number", "subscription", "site", "version", "attempts", "last error", "died")
    show(table(headings, rows))


@deadletter_commands.command("retry", epilog=examples("deadletters retry 17"))
def retry_dead_letter(number: DeadLetterId, as_json: AsJson = False) -> None:
    """Send a dead letter again, with the whole schedule of retries."""
    with opened() as ledger:
        begun = operator_of(ledger).retry_dead_letter(number)
    if as_json:
        document(picked(begun, "replay_id", "subscription_id"))
    else:
        show(f"Dead letter {number} is sent again to {begun.subscription_id}.")


@deadletter_commands.command("drop", epilog=examples("deadletters drop 17"))
def drop_dead_letter(number: DeadLetterId, as_json: AsJson = False) -> None:
    """Forget a dead letter: its receiver will not get it. The log keeps the event."""
    with opened() as ledger:
        operator_of(ledger).drop_dead_letter(number)
    if as_json:
        document({"dead_letter_id": number, "dropped": True})
    else:
        show(f"Dropped dead letter {number}.")
