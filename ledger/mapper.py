"""Between domain events and the bytes that are stored for ever."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    JSONTranscoder,
    Mapper,
    MapperDeserialisationError,
    StoredEvent,
)
from eventsourcing.utils import get_topic

from ledger import timestamps
from ledger.aggregate import (
    CHANGED_TOPIC,
    CREATED_TOPIC,
    SettingsChanged,
    SettingsCreated,
    SiteSettings,
)
from ledger.canonical import canonical_bytes
from ledger.errors import UnknownTopic

_CLASSES: dict[str, type[SettingsCreated | SettingsChanged]] = {
    CREATED_TOPIC: SettingsCreated,
    CHANGED_TOPIC: SettingsChanged,
}

# Absent means absent: these are left out of the stored bytes where they have no value.
_OPTIONAL = ("on_behalf_of", "reason", "origin", "request_id")
_SET_BY_ADDRESS = ("originator_id", "originator_version", "originator_topic")


class SettingsMapper(Mapper[UUID]):
    """Owns both conversions, so that nothing in a process's environment can change the bytes.

    Keys that this program does not know survive a round trip. A topic that it does not know
    raises UnknownTopic: a reader must not pass over what it cannot understand.
    """

    def __init__(self) -> None:
        super().__init__(transcoder=JSONTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The event as it is stored (design: "Frozen")."""
        facts: dict[str, Any] = {
            name: value
            for name, value in vars(domain_event).items()
            if name not in _SET_BY_ADDRESS and not (value is None and name in _OPTIONAL)
        }
        facts["timestamp"] = timestamps.stored(facts["timestamp"])
        class_version = getattr(type(domain_event), "class_version", 1)
        if class_version > 1:
            facts["class_version"] = class_version
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=get_topic(type(domain_event)),
            state=canonical_bytes(facts),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event as the aggregate knows it. Raises UnknownTopic."""
        place = f"{stored_event.originator_id} version {stored_event.originator_version}"
        event_class = _CLASSES.get(stored_event.topic)
        if event_class is None:
            raise UnknownTopic(stored_event.topic, place)
        try:
            facts: dict[str, Any] = json.loads(stored_event.state)
            facts["timestamp"] = timestamps.parse(facts["timestamp"])
        except (ValueError, KeyError, TypeError) as error:
            message = f"The event at {place} cannot be read: {error}"
            raise MapperDeserialisationError(message) from error
        facts["originator_id"] = stored_event.originator_id
        facts["originator_version"] = stored_event.originator_version
        if event_class is SettingsCreated:
            facts["originator_topic"] = SiteSettings.TOPIC
        domain_event = object.__new__(event_class)
        object.__setattr__(domain_event, "__dict__", facts)
        return domain_event
