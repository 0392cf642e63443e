"""What a writer relies on without asking, and what becomes of it where that was wrong."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from faults.evidence import examine
from faults.locks import held_lock
from faults.opening import SOMEONE, opened, provenance, submit, update, writer_of
from faults.test_interleavings import append_by_hand
from hypothesis import given
from hypothesis import strategies as st

from ledger import timestamps
from ledger.aggregate import SettingsRecord
from ledger.batch import read_surroundings
from ledger.commands import SettingsCommand
from ledger.errors import VersionMismatch
from ledger.flight import Draft
from ledger.folding import SiteFold, Surroundings
from ledger.idempotency import Idempotency
from ledger.identity import Identity
from ledger.memory import BETTER_READING, CLOCK_LIFE, LARGEST, REST, Memory
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.recording import LONGEST_READING

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
INVOICE = {"createInvoice": True}
TOKEN = {"type": "APP", "ref": str(uuid.uuid4()), "commitment": "0" * 64}


@pytest.fixture
def clock(monkeypatch):
    """The process's own clock, moved by hand."""

    class Clock:
        seconds = 1000.0

    monkeypatch.setattr("ledger.memory.time.monotonic", lambda: Clock.seconds)
    return Clock


SITE = uuid.uuid4()


def command(**changed) -> SettingsCommand:
    """A plain change of the site."""
    facts = {
        "deadline": 1e9,
        "site_id": SITE,
        "kind": ORDERS_SETTINGS,
        "patch": INVOICE,
        "provenance": provenance(),
    }
    return SettingsCommand(**facts | changed)


def knowing(clock) -> Memory:
    """A memory of the site at version 1, and of who acts."""
    memory = Memory()
    assert not memory.covers(command())
    record = SettingsRecord(
        SITE, ORDERS_SETTINGS.fqdn, 1, 0, 1, bytes(32), ORDERS_SETTINGS.defaults(), NOON, NOON
    )
    key = command().originator_id
    around = Surroundings(NOON, {key: record}, {}, {(SITE, SOMEONE): TOKEN})
    memory.read(around, clock.seconds)
    draft = Draft(0)
    draft.add([command()], around)
    memory.remember(draft.flight().folds)
    return memory


@pytest.mark.parametrize(
    "asked",
    [
        command(site_id=uuid.uuid4()),
        command(provenance=replace(provenance(), actor=Identity.member("new here"))),
        command(provenance=replace(provenance(), on_behalf_of=Identity.member("new here"))),
        command(if_match=(2,)),
        command(idempotency=Idempotency("credential", "key", b"request")),
        command(patch=None),
    ],
    ids=["site", "actor", "principal", "if-match", "idempotency", "creation"],
)
def test_what_may_be_refused_or_is_not_known_is_not_covered(clock, asked):
    """Only changes that end in an event, which the log can refuse, are decided from memory."""
    memory = knowing(clock)
    assert memory.covers(command())
    assert not memory.covers(asked)


def test_it_remembers_what_the_last_decision_left(clock):
    """The next decision follows the version, the leaf and the settings of the one before."""
    record = knowing(clock).surroundings().records[command().originator_id]
    assert (record.version, record.settings["createInvoice"]) == (2, True)
    assert record.leaf_hash != bytes(32)


def test_it_does_not_grow_without_bound(clock):
    """More sites or people than it holds, and those go that changed longest ago."""
    memory = knowing(clock)
    around = memory.surroundings()
    sample, token = around.records[command().originator_id], around.tokens[SITE, SOMEONE]
    draft = Draft(0)
    draft.add([command()], around)
    (fold,) = draft.flight().folds
    others = [uuid.UUID(int=number) for number in range(LARGEST)]
    memory.remember(replace_fold(fold, other, sample) for other in others[:-1])
    assert memory.covers(command())
    memory.remember([replace_fold(fold, others[-1], sample)])
    assert not memory.covers(command())
    people = {(other, SOMEONE): token for other in others}
    memory.read(Surroundings(NOON, {}, {}, people), clock.seconds)
    now = memory.surroundings()
    assert now.records.keys() == now.aggregates.keys() == set(others)
    assert now.tokens.keys() == people.keys()


def replace_fold(fold: SiteFold, originator_id: uuid.UUID, record: SettingsRecord) -> SiteFold:
    """The fold of another site."""
    return SiteFold(0, originator_id, record, fold.mapper, fold.aggregate)


def test_an_aggregate_that_went_on_with_what_was_never_offered_is_made_again(clock):
    """A draft that is dropped leaves nothing behind: the next decides on what is recorded."""
    memory = knowing(clock)
    for _ in range(2):
        draft = Draft(0)
        draft.add([command(), command()], memory.surroundings())
        assert [event.originator_version for event in draft.flight().offer.events] == [3, 4]


def test_a_stranger_on_the_partition_sends_it_to_rest(clock):
    """Positions that do not follow the last ones mean another writer: ask again for a while."""
    memory = knowing(clock)
    memory.appended({(SITE, 2): 7}, 1)
    memory.appended({(SITE, 3): 8}, 1)
    assert memory.serves
    memory.appended({(SITE, 4): 10}, 1)
    for position in range(11, 11 + REST):
        assert not memory.serves
        memory.appended({(SITE, position): position}, 1)
    assert memory.serves


def test_a_refused_append_sends_it_to_rest(clock):
    """Where the log did not take everything, somebody else was there."""
    memory = knowing(clock)
    memory.appended({}, 1)
    assert not memory.serves


def test_an_old_reading_of_the_clock_is_not_carried_on(clock):
    """After half a second without a reading the database is asked."""
    memory = knowing(clock)
    clock.seconds += CLOCK_LIFE + 0.001
    assert not memory.serves


delays = st.floats(0, 0.2)


@given(st.lists(st.tuples(delays, delays, delays), min_size=1, max_size=30))
def test_the_carried_clock_is_never_behind_and_soon_as_good_as_the_best_reading(readings):
    """Whatever a reading took, what is carried on is not before the database's true time.

    And it is ahead by no more than the best of the readings that are not too old.
    """
    memory, at = Memory(), 50.0
    errors: list[tuple[float, float]] = []
    for pause, there, back in readings:
        at += pause
        # The database's true time is ours plus a constant; it shows when the question arrives.
        memory.note_clock(NOON + timedelta(seconds=at + there), at)
        errors.append((at, there))
        at += there + back
        ahead = (memory._now(at) - (NOON + timedelta(seconds=at))).total_seconds()
        assert ahead >= -1e-5
        recent = [error for asked, error in errors if asked >= errors[-1][0] - BETTER_READING]
        assert ahead <= max(recent) + 1e-5
    assert memory._clock is not None


# --- in a writer ------------------------------------------------------------------------------


def warm(ledger, *sites) -> None:
    """Let the writer learn the sites."""
    for site in sites:
        update(ledger, site.site_id, {})
        assert writer_of(ledger)._memory.covers(command(site_id=site.site_id))


def test_a_draft_that_rests_on_what_the_log_refuses_is_decided_again(ledger):
    """Somebody else's change comes first: flight and draft follow it, whole and in order."""
    site, other = ledger.create_site(), ledger.create_site()
    warm(ledger, site, other)
    with held_lock(ledger.database_url) as lock:
        tags = [f"change/{number}" for number in range(4)]
        flying = [submit(ledger, site.site_id, INVOICE, tag) for tag in tags[:1]]
        lock.until_waiting()
        drafted = [submit(ledger, site.site_id, INVOICE, tag) for tag in tags[1:]]
        elsewhere = submit(ledger, other.site_id, INVOICE, "elsewhere")
        append_by_hand(lock.holder, site.site_id, timestamps.stored(_now(lock.holder)))
        lock.release()
        records = [change.result() for change in flying + drafted]
        assert elsewhere.result().version == 3
    assert [record.version for record in records] == [4, 5, 6, 7]
    evidence = examine(ledger.database_url)
    assert evidence.tags == dict.fromkeys([*tags, "elsewhere"], 1)
    assert [evidence.places[tag] for tag in tags] == [(r.version, r.position) for r in records]


def _now(connection) -> datetime:
    return connection.execute("SELECT clock_timestamp()").fetchone()[0]


def test_what_is_answered_may_be_changed_by_whoever_got_it(ledger):
    """The caller's copy is the caller's: the next change builds on what was recorded."""
    site = ledger.create_site()
    for _ in range(3):
        record = update(ledger, site.site_id, {})
        record.settings["createInvoice"] = "spoilt"
        record.settings["emailNotifications"]["spoilt"] = True
    assert update(ledger, site.site_id, {}).settings == ORDERS_SETTINGS.defaults()
    assert ledger.verify().fault is None
    examine(ledger.database_url)


def test_a_change_is_stamped_while_it_was_made(ledger):
    """By the database's clock a change happened after it was asked for, before it was answered."""
    site = ledger.create_site()
    with psycopg.connect(ledger.database_url, autocommit=True) as connection:
        for _ in range(200):
            before = _now(connection)
            record = update(ledger, site.site_id, {})
            assert before <= record.updated <= _now(connection)


def test_whoever_was_erased_is_someone_new_at_once(database, ledger):
    """The log refuses a change by a remembered actor who is gone; decided again, it has a new one."""
    site = ledger.create_site()
    warm(ledger, site)
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("DELETE FROM actors WHERE subject_id = %s", (SOMEONE.id,))
    record = update(ledger, site.site_id, INVOICE, "again")
    assert record.version == 3
    newest, older, _ = site.history.changes()
    assert (newest.actor, older.actor.id) == (SOMEONE, "erased")
    assert examine(database.server_url).tags == {"again": 1}


def test_two_ledgers_that_take_turns_see_each_other(database):
    """What the one remembers is no answer to the other's changes, conditional ones included."""
    with opened(database.server_url) as east, opened(database.server_url) as west:
        site = east.create_site()
        warm(east, site)
        assert update(west, site.site_id, INVOICE, if_match=(2,)).version == 3
        assert update(east, site.site_id, {}, if_match=(3,)).version == 4
        versions = [update((east, west)[n % 3 == 0], site.site_id, {}).version for n in range(30)]
    assert versions == list(range(versions[0], versions[0] + 30))
    examine(database.server_url)


def test_a_wait_for_the_lock_does_not_put_the_clock_forward(ledger):
    """Of an answer that was long in coming the clock is not taken: it may be a second attempt's."""
    site = ledger.create_site()
    warm(ledger, site)
    known = writer_of(ledger)._memory._clock
    with held_lock(ledger.database_url) as lock:
        change = submit(ledger, site.site_id, {}, "waiting")
        lock.until_waiting()
        lock.until_clock(LONGEST_READING)
        lock.release()
        change.result()
    assert writer_of(ledger)._memory._clock == known


def test_only_what_is_not_known_is_read(ledger, monkeypatch):
    """A stranger costs the others of its batch nothing: they are decided while it waits."""
    site, stranger = ledger.create_site(), ledger.create_site()
    warm(ledger, site)
    truly, asked = read_surroundings, []

    def read(connection, partition, current, commands, known):
        asked.append([command.provenance.origin for command in commands])
        return truly(connection, partition, current, commands, known)

    monkeypatch.setattr("ledger.recording.read_surroundings", read)
    with held_lock(ledger.database_url) as lock:
        flying = submit(ledger, site.site_id, {}, "flying")
        lock.until_waiting()
        known = submit(ledger, site.site_id, INVOICE, "known")
        unknown = submit(ledger, stranger.site_id, INVOICE, "unknown", if_match=(1,))
        lock.release()
        assert [change.result().version for change in (flying, known, unknown)] == [3, 4, 2]
    assert asked == [["unknown"]]
    examine(ledger.database_url)


def test_nobody_of_a_site_overtakes_whoever_must_be_read_for(ledger):
    """A condition is judged by what the changes before it leave, and before the ones after it."""
    site = ledger.create_site()
    warm(ledger, site)
    key = Idempotency("credential", "key", b"request")
    with held_lock(ledger.database_url) as lock:
        changes = [submit(ledger, site.site_id, {}, "flying")]
        lock.until_waiting()
        changes.append(submit(ledger, site.site_id, INVOICE, "drafted"))
        changes.append(submit(ledger, site.site_id, {}, "condition", if_match=(4,)))
        refused = submit(ledger, site.site_id, {}, "outdated", if_match=(4,))
        changes.append(submit(ledger, site.site_id, {}, "keyed", idempotency=key))
        changes.append(submit(ledger, site.site_id, {}, "behind"))
        again = submit(ledger, site.site_id, {}, "again", idempotency=key)
        lock.release()
        versions = [change.result().version for change in changes]
        assert isinstance(refused.exception(), VersionMismatch)
        assert again.result().version == 6
    assert versions == [3, 4, 5, 6, 7]
    assert "again" not in examine(ledger.database_url).tags
    repeated = submit(ledger, site.site_id, {}, "repeated", idempotency=key)
    assert repeated.result().version == 6
