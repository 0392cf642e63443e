"""The log behind the eventsourcing library's interface: its own test case, and what is ours."""

from __future__ import annotations

import random
import uuid

import psycopg
import pytest
from eventsourcing.application import AggregateNotFoundError
from eventsourcing.domain import Snapshot
from eventsourcing.persistence import (
    IntegrityError,
    NotSupportedError,
    StoredEvent,
    Tracking,
)
from eventsourcing.tests.persistence import ApplicationRecorderTestCase
from faults.evidence import examine
from faults.locks import held_lock
from faults.opening import opened, update
from faults.readers import subscriber
from faults.waiting import eventually

from ledger import timestamps
from ledger.aggregate import Attribution, SiteSettings, originator_id
from ledger.database import Database
from ledger.doorbell import Doorbell
from ledger.errors import UnknownTopic
from ledger.identity import Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.recorder import PartitionLog
from ledger.writer import Writer

LIBRARY = Via("library")
MORNING = timestamps.parse("2026-01-05T08:00:00.000000Z")
NOON = timestamps.parse("2026-01-05T12:00:00.000000Z")


@pytest.fixture
def log(database_url):
    """An empty partition of the shared database, without current settings: any event will do."""
    with Database(database_url) as database:
        doorbell = Doorbell(database)
        writer = Writer(database, random.randrange(1, 2**31), None, doorbell)
        yield PartitionLog(database, writer)
        writer.close()
        doorbell.close()


class TestPartitionLog(ApplicationRecorderTestCase[PartitionLog]):
    """The library's own test case, whole and unchanged, and its optional part.

    Where the log promises more, or other things, than the library's recorders do, the tests
    that follow this class say so: versions have no gaps, and there is no tracking.
    """

    @pytest.fixture(autouse=True)
    def _own_log(self, log):
        self.log = log

    def create_recorder(self) -> PartitionLog:
        return self.log

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


def stored(originator: uuid.UUID, version: int, state: bytes = b"state") -> StoredEvent:
    return StoredEvent(originator, version, "topic", state)


@pytest.mark.parametrize("version", [2, 3, 10])
def test_a_new_originator_begins_with_its_first_version(log, version):
    """A first event has version 1 (or 0, as some of the library's aggregates have)."""
    with pytest.raises(IntegrityError):
        log.insert_events([stored(uuid.uuid4(), version)])
    assert log.max_notification_id() is None


def test_versions_have_no_gaps(log):
    """An event that skips a version is refused; the library's recorders would take it."""
    originator = uuid.uuid4()
    log.insert_events([stored(originator, 1)])
    with pytest.raises(IntegrityError):
        log.insert_events([stored(originator, 3)])
    with pytest.raises(IntegrityError):
        log.insert_events([stored(originator, 2), stored(originator, 4)])
    assert log.insert_events([stored(originator, 2)]) == [2]


def test_there_is_no_tracking(log):
    """Tracking is refused rather than forgotten: a projection keeps its cursor itself."""
    with pytest.raises(NotSupportedError):
        log.insert_events([stored(uuid.uuid4(), 1)], tracking=Tracking("upstream", 1))
    assert log.max_notification_id() is None


def test_events_of_several_originators_are_recorded_all_or_none(log):
    """One conflicting originator keeps the events of all others out, too."""
    known, new = uuid.uuid4(), uuid.uuid4()
    log.insert_events([stored(known, 1)])
    with pytest.raises(IntegrityError):
        log.insert_events([stored(new, 1), stored(known, 1)])
    assert log.select_events(new) == []


def test_events_that_lose_the_race_for_the_lock_are_recorded_all_or_none(log, database_url):
    """An originator that moves while its events wait keeps the whole insertion out."""
    known, new = uuid.uuid4(), uuid.uuid4()
    log.insert_events([stored(known, 1)])
    with Database(database_url) as database:
        doorbell = Doorbell(database)
        rival_writer = Writer(database, log.partition, None, doorbell)
        rival = PartitionLog(database, rival_writer)
        with held_lock(database_url, log.partition) as lock, _in_thread() as begin:
            first = begin(rival.insert_events, [stored(known, 2)])
            lock.until_waiting()
            second = begin(log.insert_events, [stored(new, 1), stored(known, 2, b"other")])
            lock.until_waiting(2)
            lock.release()
            assert first.result() == [2]
            with pytest.raises(IntegrityError):
                second.result()
        rival_writer.close()
        doorbell.close()
    assert log.select_events(new) == []
    assert [event.state for event in log.select_events(known)] == [b"state", b"state"]


def _in_thread():
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import contextmanager

    @contextmanager
    def begun():
        with ThreadPoolExecutor() as executor:
            yield executor.submit

    return begun()


def test_a_subscription_sees_what_comes_later(log):
    """A subscription that waits is given each event as it is recorded, once and in order."""
    originator = uuid.uuid4()
    with subscriber(log) as reader:
        for version in range(1, 21):
            log.insert_events([stored(originator, version, b"%d" % version)])
        assert reader.finish(20) == [(n, b"%d" % n) for n in range(1, 21)]


def test_a_subscription_gives_its_connection_back(log, database_url):
    """Once left, a subscription that had to wait holds no connection."""
    listening = """
        SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'settings-ledger listener' AND datname = current_database()
          AND pid = ANY(%s)
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        with log.subscribe(gt=0) as subscription, _in_thread() as begin:
            first = begin(next, subscription)
            pid = eventually(lambda: _listener_pid(subscription))
            log.insert_events([stored(uuid.uuid4(), 1)])
            assert first.result().id == 1
        eventually(lambda: connection.execute(listening, ([pid],)).fetchone() == (0,))


def _listener_pid(subscription) -> int | None:
    connection = subscription._listener._connection
    return connection.info.backend_pid if connection else None


# --- Application.save on the real ledger ----------------------------------------------------------


@pytest.fixture
def ledger(fresh_database):
    with opened(fresh_database().server_url) as ledger:
        yield ledger


def attribution() -> Attribution:
    actor = {"type": "WIX_USER", "ref": str(uuid.uuid4()), "commitment": "0" * 64}
    return Attribution(actor=actor, via=LIBRARY)


def changed(aggregate: SiteSettings, patch: dict, now=NOON) -> SiteSettings:
    aggregate.change(ORDERS_SETTINGS, patch, attribution(), now)
    return aggregate


def created() -> SiteSettings:
    return SiteSettings.create(uuid.uuid4(), ORDERS_SETTINGS, LIBRARY, MORNING)


def test_saved_aggregates_are_in_the_log_and_in_the_current_settings(ledger):
    """What Application.save records is as sound as what the writer folds itself."""
    application = ledger.application(0)
    aggregate = changed(created(), {"createInvoice": True})
    recordings = application.save(aggregate)
    assert [recording.notification.id for recording in recordings] == [1, 2]
    evidence = examine(ledger.database_url)
    assert evidence.versions == {aggregate.id: 2}
    with ledger.database.connection() as connection:
        (record,) = ledger.current.page(connection, 0, None, 2).values()
    assert (record.version, record.position, record.settings) == (2, 2, aggregate.settings)
    assert (record.created, record.updated) == (MORNING, NOON)
    assert ledger.verify().fault is None


def test_saving_goes_on_from_the_repository(ledger):
    """An aggregate got from the repository is changed, saved, and then changed by a command."""
    application = ledger.application(0)
    site = ledger.create_site()
    key = originator_id(site.site_id, ORDERS_SETTINGS.fqdn)
    future = timestamps.parse("2126-01-01T00:00:00.000000Z")
    aggregate = changed(application.repository.get(key), {"createInvoice": True}, future)
    application.save(aggregate)
    assert site.record().version == 2
    assert update(ledger, site.site_id, {"inventoryUpdateTrigger": "ON_ORDER_PAID"}).version == 3
    assert examine(ledger.database_url).settings[key] == site.settings()


def test_a_conflicting_save_is_refused(ledger):
    """Of two copies that were changed, the one saved second meets IntegrityError."""
    application = ledger.application(0)
    application.save(mine := created())
    theirs = application.repository.get(mine.id)
    application.save(changed(theirs, {"createInvoice": True}))
    with pytest.raises(IntegrityError):
        application.save(changed(mine, {"createInvoice": False}))
    assert examine(ledger.database_url).versions == {mine.id: 2}


def test_nothing_of_a_save_is_recorded_when_one_aggregate_conflicts(ledger):
    """A new aggregate saved together with an outdated one is not recorded either."""
    application = ledger.application(0)
    application.save(outdated := created())
    application.save(changed(application.repository.get(outdated.id), {"createInvoice": True}))
    newcomer = created()
    with pytest.raises(IntegrityError):
        application.save(newcomer, changed(outdated, {"createInvoice": False}))
    with pytest.raises(AggregateNotFoundError):
        application.repository.get(newcomer.id)
    assert examine(ledger.database_url).versions == {outdated.id: 2}


def test_an_event_of_another_kind_is_refused(ledger):
    """The real ledger takes no event whose topic its readers would not know."""
    recorder = ledger.application(0).recorder
    with pytest.raises(UnknownTopic):
        recorder.insert_events([stored(uuid.uuid4(), 1)])
    assert recorder.max_notification_id() is None


def test_the_repository_rebuilds_the_same_from_snapshot_and_from_events(ledger):
    """The aggregate from the current row equals the one from the events, at every version."""
    application = ledger.application(0)
    site = ledger.create_site()
    key = originator_id(site.site_id, ORDERS_SETTINGS.fqdn)
    seen = [application.repository.get(key)]
    for patch in ({"createInvoice": True}, {}, {"emailNotifications": {"orderPlaced": False}}):
        update(ledger, site.site_id, patch)
        seen.append(application.repository.get(key))
    assert seen == [application.repository.get(key, version=version) for version in range(1, 5)]


def test_a_version_is_rebuilt_from_events_alone(ledger):
    """Asked for a version, even the newest, the repository does not trust the current row."""
    application = ledger.application(0)
    site = ledger.create_site()
    key = originator_id(site.site_id, ORDERS_SETTINGS.fqdn)
    update(ledger, site.site_id, {"createInvoice": True})
    with psycopg.connect(ledger.database_url) as connection:
        connection.execute("UPDATE current_settings SET settings = '{}'")
    assert application.repository.get(key).settings == {}
    assert application.repository.get(key, version=2).settings["createInvoice"] is True


def test_the_current_row_is_a_snapshot_that_nobody_takes(ledger):
    """The snapshot store gives the current row and refuses to be written."""
    snapshots = ledger.application(0).snapshots
    site = ledger.create_site()
    key = originator_id(site.site_id, ORDERS_SETTINGS.fqdn)
    (snapshot,) = snapshots.get(key)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.originator_version == 1
    assert list(snapshots.get(key, gt=1)) == []
    with pytest.raises(NotSupportedError):
        snapshots.recorder.insert_events([stored(key, 2)])
