"""The stored form, frozen: golden events byte for byte, and events of a program yet to come."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import MapperDeserialisationError, StoredEvent

from ledger.aggregate import (
    Attribution,
    SiteSettings,
    originator_id,
)
from ledger.canonical import canonical_bytes, leaf_hash
from ledger.errors import UnknownTopic
from ledger.identity import Via
from ledger.mapper import SettingsMapper
from ledger.orders_settings import ORDERS_SETTINGS

REPOSITORY = Path(__file__).parents[1]
SITE = UUID("0b8f0d5a-8dfe-41ee-89d1-0242ac120002")
ORIGINATOR = UUID("d92c7993-d56f-55e3-bbdf-370cb9374abb")
NOW = datetime(2024, 7, 4, 15, 10, 46, 70_000, tzinfo=UTC)
EVENT_ID = "01907e12-3456-7abc-8def-0123456789ab"

ACTOR = {
    "type": "WIX_USER",
    "ref": "5f0c7d1e-1111-4222-8333-444455556666",
    "commitment": "aa" * 32,
}
VISITOR = {
    "type": "ANONYMOUS_VISITOR",
    "ref": "6a1d8e2f-1111-4222-8333-444455556666",
    "commitment": "bb" * 32,
}
REASON = {"ref": "7b2e9f30-1111-4222-8333-444455556666", "commitment": "cc" * 32}

CREATED = (
    b'{"event_id":"01907e12-3456-7abc-8def-0123456789ab",'
    b'"kind":"wix.ecom.v1.orders_settings",'
    b'"settings":{"createInvoice":false,'
    b'"emailNotifications":{"orderPlaced":true,"orderShipped":true,"pickupReady":true},'
    b'"inventoryUpdateTrigger":"ON_ORDER_PLACED"},'
    b'"site_id":"0b8f0d5a-8dfe-41ee-89d1-0242ac120002",'
    b'"timestamp":"2024-07-04T15:10:46.070000Z",'
    b'"via":{"asserted":false,"channel":"cli","credential":null}}'
)
CHANGED_IN_FULL = (
    b'{"actor":{"commitment":'
    b'"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",'
    b'"ref":"5f0c7d1e-1111-4222-8333-444455556666","type":"WIX_USER"},'
    b'"changes":{"createInvoice":{"from":false,"to":true},'
    b'"emailNotifications.orderShipped":{"from":true,"to":false}},'
    b'"event_id":"01907e12-3456-7abc-8def-0123456789ab",'
    b'"kind":"wix.ecom.v1.orders_settings",'
    b'"on_behalf_of":{"commitment":'
    b'"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",'
    b'"ref":"6a1d8e2f-1111-4222-8333-444455556666","type":"ANONYMOUS_VISITOR"},'
    b'"origin":"restore:v3",'
    b'"patch":{"createInvoice":true,"emailNotifications":{"orderShipped":false}},'
    b'"reason":{"commitment":'
    b'"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",'
    b'"ref":"7b2e9f30-1111-4222-8333-444455556666"},'
    b'"request_id":"req-1",'
    b'"settings":{"createInvoice":true,'
    b'"emailNotifications":{"orderPlaced":true,"orderShipped":false,"pickupReady":true},'
    b'"inventoryUpdateTrigger":"ON_ORDER_PLACED"},'
    b'"site_id":"0b8f0d5a-8dfe-41ee-89d1-0242ac120002",'
    b'"timestamp":"2024-07-04T15:10:46.070001Z",'
    b'"via":{"asserted":true,"channel":"http","credential":"key_1"}}'
)
CHANGED_IN_SHORT = (
    b'{"actor":{"commitment":'
    b'"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",'
    b'"ref":"5f0c7d1e-1111-4222-8333-444455556666","type":"WIX_USER"},'
    b'"changes":{"createInvoice":{"from":true,"to":false}},'
    b'"event_id":"01907e12-3456-7abc-8def-0123456789ab",'
    b'"kind":"wix.ecom.v1.orders_settings",'
    b'"patch":{"createInvoice":null},'
    b'"settings":{"createInvoice":false,'
    b'"emailNotifications":{"orderPlaced":true,"orderShipped":false,"pickupReady":true},'
    b'"inventoryUpdateTrigger":"ON_ORDER_PLACED"},'
    b'"site_id":"0b8f0d5a-8dfe-41ee-89d1-0242ac120002",'
    b'"timestamp":"2024-07-04T15:10:46.070002Z",'
    b'"via":{"asserted":false,"channel":"library","credential":null}}'
)
LEAVES = (
    "d322e6c0b54f6c461b723722613c3dafc576dcbd31bf7d1ef9c1691bd2ef790c",
    "efff1400c250eb65bbaf89f645a835e7f79dda350a422863fcf59383ae811b0e",
    "d8972171e9329afdd437eaef5de28842f9c10d177462c7ad851cdb294103581c",
)
GOLDEN = (
    StoredEvent(ORIGINATOR, 1, "ledger:SettingsCreated", CREATED),
    StoredEvent(ORIGINATOR, 2, "ledger:SettingsChanged", CHANGED_IN_FULL),
    StoredEvent(ORIGINATOR, 3, "ledger:SettingsChanged", CHANGED_IN_SHORT),
)


def recorded() -> list[DomainEventProtocol[UUID]]:
    """The golden events as the aggregate makes them today."""
    settings = SiteSettings.create(SITE, ORDERS_SETTINGS, Via("cli"), NOW)
    in_full = Attribution(
        actor=dict(ACTOR),
        via=Via("http", "key_1", asserted=True),
        on_behalf_of=dict(VISITOR),
        reason=dict(REASON),
        origin="restore:v3",
        request_id="req-1",
    )
    patch = {"createInvoice": True, "emailNotifications": {"orderShipped": False}}
    settings.change(ORDERS_SETTINGS, patch, in_full, NOW)
    in_short = Attribution(actor=dict(ACTOR), via=Via("library"))
    settings.change(ORDERS_SETTINGS, {"createInvoice": None}, in_short, NOW)
    return list(settings.collect_events())


def with_golden_id(stored: StoredEvent) -> StoredEvent:
    """The one thing that differs from run to run, put in place."""
    own = json.loads(stored.state)["event_id"]
    state = stored.state.replace(own.encode(), EVENT_ID.encode())
    return StoredEvent(stored.originator_id, stored.originator_version, stored.topic, state)


def fold(events: list[DomainEventProtocol[UUID]]) -> SiteSettings:
    settings: Any = None
    for event in events:
        settings = event.mutate(settings)
    return settings


# --- golden ----------------------------------------------------------------------------------


def test_events_are_stored_as_they_always_were() -> None:
    """What the aggregate records is stored byte for byte as the golden events have it."""
    mapper = SettingsMapper()
    stored = [with_golden_id(mapper.to_stored_event(event)) for event in recorded()]
    assert stored == list(GOLDEN)


def test_the_originators_id_is_the_frozen_one() -> None:
    """uuid5 of the site and the kind's FQDN; it is also the webhook's entityId."""
    assert originator_id(SITE, "wix.ecom.v1.orders_settings") == ORIGINATOR


def test_event_ids_are_of_version_seven() -> None:
    """Every event has its own id, a UUIDv7, so that ids sort by time."""
    ids = [UUID(event.event_id) for event in recorded()]
    assert [event_id.version for event_id in ids] == [7, 7, 7]
    assert sorted(ids) == ids
    assert len(set(ids)) == 3


def test_the_leaves_of_the_golden_events_are_pinned() -> None:
    """The chain of leaf hashes is the design's formula, computed here from nothing but bytes."""
    previous = bytes(32)
    for event, pinned in zip(GOLDEN, LEAVES, strict=True):
        expected = hashlib.sha256(
            b"\x00"
            b"settings-ledger/1"
            + bytes.fromhex("d92c7993d56f55e3bbdf370cb9374abb")
            + bytes([0, 0, 0, 0, 0, 0, 0, event.originator_version])
            + previous
            + hashlib.sha256(event.topic.encode("ascii")).digest()
            + hashlib.sha256(event.state).digest()
        ).digest()
        made = leaf_hash(
            ORIGINATOR,
            event.originator_version,
            None if event.originator_version == 1 else previous,
            event.topic,
            event.state,
        )
        assert made == expected
        assert made.hex() == pinned
        previous = expected


def test_golden_events_fold_to_their_settings() -> None:
    """Reading the golden events rebuilds values, version and both dates."""
    settings = fold([SettingsMapper().to_domain_event(event) for event in GOLDEN])
    assert settings.id == ORIGINATOR
    assert settings.version == 3
    assert settings.site_id == str(SITE)
    assert settings.kind == "wix.ecom.v1.orders_settings"
    assert settings.settings == json.loads(CHANGED_IN_SHORT)["settings"]
    assert settings.created_on == NOW
    assert settings.modified_on == NOW.replace(microsecond=70_002)


@pytest.mark.parametrize("event", GOLDEN, ids=["created", "changed in full", "changed in short"])
def test_a_round_trip_keeps_every_byte(event: StoredEvent) -> None:
    """Read and stored again, an event is the same bytes; absent keys read as None."""
    mapper = SettingsMapper()
    domain_event = mapper.to_domain_event(event)
    assert mapper.to_stored_event(domain_event) == event
    if event is GOLDEN[2]:
        absent = ("on_behalf_of", "reason", "origin", "request_id")
        assert [getattr(domain_event, name) for name in absent] == [None] * 4


def test_nothing_is_stored_of_what_is_not_there() -> None:
    """No null stands for a missing key, and none of the library's own keys is stored."""
    for event in recorded():
        facts = json.loads(SettingsMapper().to_stored_event(event).state)
        assert None not in facts.values()
        assert not facts.keys() & {
            "originator_id",
            "originator_version",
            "originator_topic",
            "class_version",
        }


def test_golden_bytes_are_canonical() -> None:
    """The golden events are themselves in the one form that is allowed."""
    for event in GOLDEN:
        assert canonical_bytes(json.loads(event.state)) == event.state


# --- events of another program -----------------------------------------------------------------


def from_the_future(event: StoredEvent) -> StoredEvent:
    """The event as a later program may write it: more keys, at the top and in the settings."""
    facts = json.loads(event.state)
    facts |= {"aNewFact": {"deep": [None, {"x": 1}]}, "class_version": 2}
    facts["settings"] |= {"giftWrap": {"paper": "blue"}}
    facts["settings"]["emailNotifications"]["orderEaten"] = True
    return StoredEvent(
        event.originator_id, event.originator_version, event.topic, canonical_bytes(facts)
    )


def test_unknown_keys_are_read_folded_and_kept() -> None:
    """Events with unknown keys fold, and survive a round trip byte for byte."""
    mapper = SettingsMapper()
    stored = [from_the_future(event) for event in GOLDEN]
    events = [mapper.to_domain_event(event) for event in stored]
    assert [mapper.to_stored_event(event) for event in events] == stored
    assert fold(events).settings == json.loads(stored[-1].state)["settings"]


def test_a_later_change_keeps_unknown_settings() -> None:
    """A change by this program leaves alone what it does not know, and says nothing about it."""
    mapper = SettingsMapper()
    settings = fold([mapper.to_domain_event(from_the_future(event)) for event in GOLDEN])
    patch = {"createInvoice": True, "emailNotifications": None}
    settings.change(ORDERS_SETTINGS, patch, Attribution(dict(ACTOR), Via("cli")), NOW)
    facts = json.loads(mapper.to_stored_event(*settings.collect_events()).state)
    assert facts["settings"]["giftWrap"] == {"paper": "blue"}
    assert "giftWrap.paper" not in facts["changes"]


def test_a_nested_change_keeps_unknown_neighbours() -> None:
    """A patch of one nested field keeps the unknown fields beside it."""
    mapper = SettingsMapper()
    settings = fold([mapper.to_domain_event(from_the_future(event)) for event in GOLDEN])
    patch = {"emailNotifications": {"orderPlaced": False}}
    settings.change(ORDERS_SETTINGS, patch, Attribution(dict(ACTOR), Via("cli")), NOW)
    assert settings.settings["emailNotifications"] == {
        "orderPlaced": False,
        "orderShipped": False,
        "pickupReady": True,
        "orderEaten": True,
    }


def test_an_unknown_topic_stops_the_reader() -> None:
    """A reader does not pass over what it cannot understand: it says what, where, and what to do."""
    unknown = StoredEvent(ORIGINATOR, 4, "ledger:SettingsErased", b"{}")
    with pytest.raises(UnknownTopic) as caught:
        SettingsMapper().to_domain_event(unknown)
    assert caught.value.topic == "ledger:SettingsErased"
    assert f"{ORIGINATOR} version 4" in str(caught.value)
    assert "Upgrade" in str(caught.value)


@pytest.mark.parametrize(
    "state", [b"", b"not json", b"[]", b"{}", b'{"timestamp":"yesterday"}', b'{"timestamp":3}']
)
def test_unreadable_bytes_are_named_by_their_place(state: bytes) -> None:
    """Bytes that are no event raise the library's own error, with the place."""
    broken = StoredEvent(ORIGINATOR, 7, "ledger:SettingsChanged", state)
    with pytest.raises(MapperDeserialisationError, match=f"{ORIGINATOR} version 7"):
        SettingsMapper().to_domain_event(broken)


def test_a_class_version_is_stored_only_above_one() -> None:
    """The key appears with the first revision of an event, not before."""

    @dataclass(frozen=True)
    class Revised:
        originator_id: UUID
        originator_version: int
        timestamp: datetime
        TOPIC = "ledger:Revised"
        class_version = 2

    stored = SettingsMapper().to_stored_event(Revised(ORIGINATOR, 1, NOW))
    assert stored.state == b'{"class_version":2,"timestamp":"2024-07-04T15:10:46.070000Z"}'


@pytest.mark.parametrize("topic", ["ledger:SettingsCreated", "ledger:SettingsChanged"])
def test_topics_resolve_in_a_program_that_knows_nothing_else(topic: str) -> None:
    """A fresh interpreter with only the library imported finds the class behind a stored topic."""
    program = (
        "from eventsourcing.utils import get_topic, resolve_topic\n"
        f"found = resolve_topic({topic!r})\n"
        "print(get_topic(found), found.__module__, found.__qualname__)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    name = {"ledger:SettingsCreated": "Created", "ledger:SettingsChanged": "Changed"}[topic]
    assert answer.stdout.split() == [topic, "ledger.aggregate", f"SiteSettings.{name}"]
