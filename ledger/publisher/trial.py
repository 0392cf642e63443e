"""A test event: signed and sent like any other, about a site that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from ledger import timestamps
from ledger.errors import InvalidInput
from ledger.identity import Identity
from ledger.kinds import KINDS
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Courier
from ledger.publisher.envelope import webhook_data
from ledger.publisher.guard import Network
from ledger.publisher.letters import Letter
from ledger.publisher.policy import Policy
from ledger.publisher.sign import KeyRack, Keys
from ledger.publisher.sink import TEST_HEADER, Destination, Outcome

NOWHERE = UUID(int=0)


async def send_test(
    keys: Keys, subscription: Destination, policy: Policy, allowed_networks: Iterable[Network]
) -> Outcome:
    """Send one test event, and say what came back. Nothing is recorded or retried.

    Site, entity and instance are the nil UUID, the sequence is 0 and the settings are the
    kind's defaults, so that no receiver can take it for a change; a header marks it, too.
    """
    blocking = BlockingCalls()
    try:
        async with Courier(KeyRack(keys), allowed_networks, blocking) as courier:
            return await courier.attempt(
                subscription, _letter(subscription.event_type), policy, {TEST_HEADER: "true"}
            )
    finally:
        blocking.close()


def _letter(event_type: str) -> Letter:
    kind = next((kind for kind in KINDS.values() if kind.event_type == event_type), None)
    if kind is None:
        raise InvalidInput("subscription", f"no kind of this program has the event {event_type}")
    now, event_id, app = datetime.now(UTC), str(uuid4()), Identity.app(str(NOWHERE))
    facts = {
        "event_id": event_id,
        "site_id": str(NOWHERE),
        "timestamp": timestamps.stored(now),
        "settings": {},
        "changes": {},
        "actor": {"type": app.type.value, "ref": str(NOWHERE)},
    }
    data = webhook_data(
        facts, kind, version=0, entity_id=NOWHERE, created=now, actor=app, instance_id=NOWHERE
    )
    return Letter(0, NOWHERE, 0, NOWHERE, event_id, data)
