"""Commands for what subscriptions get: policies, pauses, replays and tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ledger.cli.opening import opened
from ledger.cli.output import AsJson, complain, document, examples, picked, show
from ledger.cli.subscriptions import SubscriptionId, subscription_commands

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.publisher import DeliveryOperator

Position = Annotated[
    str | None,
    typer.Option(
        "--from-position", metavar="[PARTITION:]POSITION", help="The first one to be sent."
    ),
]


@subscription_commands.command(
    "policy",
    epilog=examples("subscription policy ID wix", "subscription policy ID ordered --timeout 3"),
)
def set_policy(
    subscription_id: SubscriptionId,
    policy: Annotated[str, typer.Argument(metavar="ordered|wix|latest")],
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one attempt may take.")
    ] = None,
    delays: Annotated[
        str | None, typer.Option(help="Seconds to wait after each failure, comma separated.")
    ] = None,
    in_flight: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    per_second: Annotated[float | None, typer.Option(help="Attempts a second, at most.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose how a subscription is served; what is not given is the policy's own.

    ordered: a site's next version waits for the one that failed. wix: as Wix does it, 1.25 s,
    twelve retries that hold up nothing. latest: a site that waits skips to its newest version.
    """
    from ledger.publisher import Choices

    choices = Choices(policy, _numbers(delays), timeout, in_flight, per_second)
    with opened() as ledger:
        operator_of(ledger).set_policy(subscription_id, choices)
    if as_json:
        names = ("policy", "delays", "timeout", "in_flight", "per_second")
        document({"subscription_id": subscription_id, **picked(choices, *names)})
    else:
        show(f"{subscription_id} is served by the policy {policy}.")


@subscription_commands.command(
    "pause", epilog=examples("subscription pause ID --reason 'Moving house'")
)
def pause(
    subscription_id: SubscriptionId,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks later.")] = "by an operator",
    as_json: AsJson = False,
) -> None:
    """Send nothing to a subscription until it is resumed; nothing is lost."""
    with opened() as ledger:
        operator_of(ledger).pause(subscription_id, reason)
    if as_json:
        document({"subscription_id": subscription_id, "paused": reason})
    else:
        show(f"Paused {subscription_id}.")


@subscription_commands.command(
    "resume", epilog=examples("subscription resume ID", "subscription resume ID --from-now")
)
def resume(
    subscription_id: SubscriptionId,
    from_now: Annotated[bool, typer.Option("--from-now", help="Skip what waits.")] = False,
    from_position: Position = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a paused subscription: where it stood, from now, or from a position."""
    if from_now and from_position is not None:
        raise typer.BadParameter("give --from-now or --from-position, not both")
    position = _position(from_position)
    with opened() as ledger:
        operator_of(ledger).resume(subscription_id, from_now=from_now, from_position=position)
    if as_json:
        document({"subscription_id": subscription_id, "paused": None})
    else:
        show(f"Resumed {subscription_id}.")


@subscription_commands.command(
    "replay",
    epilog=examples(
        "subscription replay ID --from-position 1200",
        "subscription replay ID --since 2026-03-01T00:00:00Z",
        "subscription replay ID --site SITE --site OTHER_SITE",
    ),
)
def replay(
    subscription_id: SubscriptionId,
    from_position: Position = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%d"],
            help="The first time to be sent; a day is UTC's.",
        ),
    ] = None,
    sites: Annotated[
        list[UUID] | None, typer.Option("--site", help="Only this one; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send again what was recorded, beside live traffic and marked X-Ledger-Replay."""
    if from_position is not None and since is not None:
        raise typer.BadParameter("give --from-position or --since, not both")
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    position = _position(from_position)
    with opened() as ledger:
        begun = operator_of(ledger).replay(
            subscription_id, from_position=position, from_time=since, sites=sites or None
        )
    if as_json:
        document(picked(begun, "replay_id", "subscription_id", "events"))
    else:
        show(f"Replay {begun.replay_id} goes over {begun.events} positions of the log.")


@subscription_commands.command("test", epilog=examples("subscription test ID"))
def send_test_event(subscription_id: SubscriptionId, as_json: AsJson = False) -> None:
    """Send a signed test event now, and say what came back; exits 1 unless it was received."""
    import asyncio

    from ledger.publisher.policy import Policies
    from ledger.publisher.trial import send_test

    with opened() as ledger:
        subscription = ledger.directory.subscription(subscription_id)
        policy = Policies().of(operator_of(ledger).delivery(subscription_id).choices)
        networks = ledger.config.allowed_networks
        outcome = asyncio.run(send_test(ledger.directory, subscription, policy, networks))
    milliseconds = round(outcome.seconds * 1000, 1)
    if as_json:
        document(
            {
                "received": outcome.received,
                **picked(outcome, "status", "problem"),
                "milliseconds": milliseconds,
            }
        )
    elif outcome.received:
        answer = "stored in a stream" if outcome.status is None else f"status {outcome.status}"
        show(f"Received: {answer} after {milliseconds} ms.")
    if not outcome.received:
        complain(f"Not received: {outcome.problem} ({milliseconds} ms).")
        raise typer.Exit(1)


def operator_of(ledger: Ledger) -> DeliveryOperator:
    """What does to deliveries as operators wish."""
    from ledger.publisher import DeliveryOperator

    return DeliveryOperator(ledger.database)


def _position(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    partition, _, position = text.rpartition(":")
    try:
        return int(partition or 0), int(position)
    except ValueError:
        raise typer.BadParameter(
            "expected POSITION or PARTITION:POSITION, such as 1200 or 2:1200"
        ) from None


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise typer.BadParameter("--delays: expected seconds, such as 5,30,60") from None
