"""What an event says, taken apart no further than everybody needs it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw

from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC
from ledger.errors import LedgerCorrupt, UnknownTopic
from ledger.eventlog import RecordedEvent
from ledger.settings import changes_between

# None of these can be part of a cycle, so the garbage collector need not look at thousands of
# them again and again (``gc=False``).


class Token(msgspec.Struct, gc=False):
    """What stands for an identity, or for a reason, which has no type."""

    ref: str
    type: str = ""


class Way(msgspec.Struct, gc=False):
    """``via``: the way in which a change came."""

    channel: str
    credential: str | None
    asserted: bool


class Facts(msgspec.Struct, gc=False):
    """The facts of an event; ``changes`` and ``settings`` are JSON, letter for letter.

    Most of an event's bytes are these two, and whoever hands an event out needs nothing in them.
    Keys that this program does not know are passed over.
    """

    event_id: str
    site_id: str
    kind: str
    timestamp: str
    settings: Raw
    via: Way
    changes: Raw = Raw()
    actor: Token | None = None
    on_behalf_of: Token | None = None
    reason: Token | None = None
    origin: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, event: RecordedEvent) -> Facts:
        """What ``event`` says. Raises UnknownTopic, and LedgerCorrupt for what says nothing."""
        if event.topic not in (CHANGED_TOPIC, CREATED_TOPIC):
            raise UnknownTopic(event.topic, _place(event))
        try:
            facts = _FACTS.decode(event.state)
        except msgspec.MsgspecError as error:
            raise LedgerCorrupt(_place(event), f"its facts cannot be read: {error}") from None
        if event.topic == CREATED_TOPIC:
            changes = changes_between({}, values_in(facts.settings))
            facts.changes = Raw(msgspec.json.encode(dict(sorted(changes.items()))))
        return facts


def values_in(raw: Raw) -> dict[str, Any]:
    """The JSON object that was left as it is."""
    return _VALUES.decode(raw)


def uuid_in(text: str) -> UUID:
    """The number that a text of the log stands for, several times as fast as ``UUID(text)``."""
    return msgspec.convert(text, UUID)


def _place(event: RecordedEvent) -> str:
    return f"partition {event.partition}, position {event.position}"


_FACTS = msgspec.json.Decoder(Facts)
_VALUES = msgspec.json.Decoder(dict[str, Any])
