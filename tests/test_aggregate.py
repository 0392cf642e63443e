"""The aggregate: every accepted patch is one event, and events alone rebuild the settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from ledger.aggregate import (
    Attribution,
    SettingsChanged,
    SettingsCreated,
    SettingsRecord,
    SiteSettings,
    originator_id,
)
from ledger.identity import Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.settings import changes_between

NOW = datetime(2024, 7, 4, 15, 10, 46, 70_000, tzinfo=UTC)
BY = Attribution({"type": "APP", "ref": str(uuid4()), "commitment": "00" * 32}, Via("library"))

patches = st.fixed_dictionaries(
    {},
    optional={
        "createInvoice": st.none() | st.booleans(),
        "inventoryUpdateTrigger": st.sampled_from([None, "ON_ORDER_PAID", "ON_ORDER_PLACED"]),
        "emailNotifications": st.none()
        | st.fixed_dictionaries({}, optional={"orderPlaced": st.none() | st.booleans()}),
    },
)
clock = st.integers(-3, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))


def created(site_id: UUID | None = None) -> SiteSettings:
    return SiteSettings.create(site_id or uuid4(), ORDERS_SETTINGS, Via("cli", "key_1"), NOW)


def fold(events: list[Any]) -> SiteSettings:
    settings: Any = None
    for event in events:
        settings = event.mutate(settings)
    return settings


def test_creating_records_the_defaults() -> None:
    """A new site is one SettingsCreated at version 1, with the defaults and where it came from."""
    site_id = uuid4()
    settings = created(site_id)
    (event,) = settings.collect_events()
    assert type(event) is SettingsCreated
    assert settings.version == event.originator_version == 1
    assert settings.settings == event.settings == ORDERS_SETTINGS.defaults()
    assert event.originator_id == originator_id(site_id, ORDERS_SETTINGS.fqdn)
    assert event.via == {"channel": "cli", "credential": "key_1", "asserted": False}
    assert settings.created_on == settings.modified_on == NOW


@given(st.lists(st.tuples(patches, clock), max_size=6))
def test_every_patch_is_one_event_that_tells_all(
    steps: list[tuple[dict[str, Any], datetime]],
) -> None:
    """Each event holds the patch as asked, what differed, and the settings after it, in order.

    Stamps only grow, whatever the clock does; the fold of the events is the aggregate.
    """
    settings = created()
    for patch, now in steps:
        settings.change(ORDERS_SETTINGS, patch, BY, now)
    events = list(settings.collect_events())
    assert [event.originator_version for event in events] == list(range(1, len(steps) + 2))

    before = events[0]
    for event, (patch, now) in zip(events[1:], steps, strict=True):
        assert type(event) is SettingsChanged
        assert event.patch == patch
        assert event.settings == ORDERS_SETTINGS.merge(before.settings, patch)
        assert event.changes == changes_between(before.settings, event.settings)
        assert event.timestamp > before.timestamp
        assert event.timestamp >= now
        before = event
    folded = fold(events)
    assert folded.settings == settings.settings == before.settings
    assert folded.version == settings.version
    assert folded.created_on == NOW
    assert folded.modified_on == before.timestamp


def test_a_patch_that_changes_no_value_is_recorded() -> None:
    """An empty patch, and one that sets what is set already, are events without changes."""
    settings = created()
    for patch in ({}, {"createInvoice": False}, {"emailNotifications": {}}):
        settings.change(ORDERS_SETTINGS, patch, BY, NOW)
    events = list(settings.collect_events())[1:]
    assert [event.changes for event in events] == [{}, {}, {}]
    assert settings.version == 4


def test_recorded_settings_are_not_shared() -> None:
    """What happens to the aggregate later does not reach back into an event."""
    settings = created()
    settings.change(ORDERS_SETTINGS, {"emailNotifications": {"orderPlaced": False}}, BY, NOW)
    first, second = settings.collect_events()
    assert first.settings["emailNotifications"]["orderPlaced"] is True
    second.settings["emailNotifications"]["pickupReady"] = "spoiled"
    assert first.settings["emailNotifications"]["pickupReady"] is True


def test_it_goes_on_from_a_current_row_as_from_the_whole_history() -> None:
    """Standing at a record, the next change is what it would be after folding all events."""
    site_id = uuid4()
    settings = created(site_id)
    settings.change(ORDERS_SETTINGS, {"createInvoice": True}, BY, NOW)
    settings.collect_events()
    record = SettingsRecord(
        site_id=site_id,
        kind=ORDERS_SETTINGS.fqdn,
        version=2,
        partition=0,
        position=2,
        leaf_hash=bytes(32),
        settings=settings.settings,
        created=settings.created_on,
        updated=settings.modified_on,
    )
    resumed = SiteSettings.standing_at(record)
    assert (resumed.id, resumed.version) == (settings.id, 2)
    for one in (settings, resumed):
        one.change(ORDERS_SETTINGS, {"createInvoice": None}, BY, NOW)
    (from_history,), (from_record,) = settings.collect_events(), resumed.collect_events()
    assert vars(from_history) | {"event_id": ""} == vars(from_record) | {"event_id": ""}
    assert resumed.created_on == NOW


def test_ids_of_sites_and_kinds_do_not_meet() -> None:
    """Another site or another kind is another originator."""
    one, other = uuid4(), uuid4()
    ids = {originator_id(site, kind) for site in (one, other) for kind in ("a.b", "a.c")}
    assert len(ids) == 4
    assert all(UUID(str(each)).version == 5 for each in ids)
