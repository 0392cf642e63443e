"""Commands that show how deliveries go: attempts, lag, breakers and owners."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from ledger.cli.opening import opened
from ledger.cli.output import AsJson, document, examples, moment, show, table

publisher_commands = typer.Typer(no_args_is_help=True, help="The publishing, as it stands.")


def deliveries(
    of: Annotated[UUID, typer.Argument(metavar="SITE|SUBSCRIPTION", help="Whose attempts.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the attempts to deliver: when, what came back, and how long it took."""
    from ledger.publisher.journal import list_attempts

    with opened() as ledger:
        attempts = list_attempts(ledger.database, of, limit)
    if as_json:
        document([asdict(attempt) for attempt in attempts])
        return
    rows = [
        (
            moment(attempt.attempted_at),
            attempt.subscription_id,
            attempt.site_id,
            f"{attempt.version}{' (replay)' if attempt.replay else ''}",
            attempt.status or "–",
            f"{attempt.milliseconds:.1f}",
            attempt.error or "received",
        )
        for attempt in attempts
    ]
    show(table(("when", "subscription", "site", "version", "status", "ms", "outcome"), rows))


@publisher_commands.command("status", epilog=examples("publisher status --json"))
def status(as_json: AsJson = False) -> None:
    """Show lag, waiting sites, open breakers and owners, the greatest lag first."""
    from ledger.publisher.status import publisher_status

    with opened() as ledger:
        found = publisher_status(ledger.database)
    if as_json:
        document(asdict(found))
        return
    rows = [
        (
            f"{feed.subscription_id}{' (replay)' if feed.replay else ''}",
            feed.partition,
            feed.lag,
            f"{feed.seconds:.1f} s",
            feed.lanes,
            feed.dead_letters,
            (feed.paused and f"paused: {feed.paused}")
            or (feed.breaker and f"open: {feed.breaker}")
            or "–",
            feed.owner or "nobody",
        )
        for feed in found.feeds
    ]
    headings = ("subscription", "partition", "lag", "age", "lanes", "dead", "state", "owner")
    show(table(headings, rows))
    show(table(("publisher", "feeds"), [(p.place, p.feeds) for p in found.publishers]))
