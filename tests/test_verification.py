"""The proof that the log holds together, and that it finds whatever somebody did to it.

Every test cheats as a superuser would: the trigger is switched off, and tables are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from ledger import Identity, Ledger, verification
from ledger.canonical import canonical_bytes, leaf_hash
from ledger.migrate import migrate
from ledger.verification import Report

if TYPE_CHECKING:
    from conftest import TestDatabase

Cheat = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def place(fresh_database: Callable[[], TestDatabase]) -> TestDatabase:
    """A database of the test's own."""
    return fresh_database()


@pytest.fixture
def ledger(place: TestDatabase) -> Iterator[Ledger]:
    with Ledger.open(database_url=place.server_url) as ledger:
        yield ledger


@pytest.fixture
def cheat(place: TestDatabase) -> Iterator[Cheat]:
    """Whoever has the owner's rights can switch the trigger off; the log must still tell."""
    with psycopg.connect(place.admin_url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("ALTER TABLE events DISABLE TRIGGER events_are_never_altered")
        yield connection


@pytest.fixture
def sites(ledger: Ledger) -> tuple[UUID, UUID]:
    """Two sites with intertwined histories: A at positions 1, 3, 5, 7 and B at 2, 4, 6."""
    one, other = ledger.create_site(), ledger.create_site()
    one.update({"createInvoice": True}, reason="first")
    other.update({"emailNotifications": {"orderShipped": False}}, by=Identity.app("an-app"))
    one.update({"inventoryUpdateTrigger": "ON_ORDER_PAID"})
    other.update({"emailNotifications": None})
    one.update({})
    assert ledger.verify() == Report(events=7, sites=2)
    return one.site_id, other.site_id


def fault(ledger: Ledger) -> str:
    report = ledger.verify()
    assert report.fault is not None, "the fault was not found"
    return report.fault


def rewrite(cheat: Cheat, position: int, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change an event's facts, and forge every leaf of its site from there on."""
    rows = cheat.execute(
        "SELECT events.* FROM events JOIN events AS hit USING (originator_id) "
        "WHERE hit.position = %s ORDER BY events.originator_version",
        (position,),
    ).fetchall()
    previous = None
    for row in rows:
        state = bytes(row["state"])
        if row["position"] == position:
            facts = json.loads(state)
            replaced = edit(facts)
            state = replaced if isinstance(replaced, bytes) else canonical_bytes(facts)
        previous = leaf_hash(
            row["originator_id"], row["originator_version"], previous, row["topic"], state
        )
        cheat.execute(
            "UPDATE events SET state = %s, leaf_hash = %s WHERE position = %s",
            (state, previous, row["position"]),
        )


# --- the untouched log ---------------------------------------------------------------------------


def test_an_untouched_log_has_no_fault(ledger: Ledger, sites: tuple[UUID, UUID]) -> None:
    """What the ledger itself recorded verifies, and everything is counted."""
    assert ledger.verify() == Report(events=7, sites=2, fault=None)


def test_an_empty_log_has_no_fault(ledger: Ledger) -> None:
    """Nothing recorded is nothing wrong."""
    assert ledger.verify() == Report(events=0, sites=0)


def test_a_long_log_is_read_in_pages(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one page of events and of sites is verified whole, and progress is told."""
    monkeypatch.setattr(verification, "PAGE", 2)
    for _ in range(3):
        ledger.create_site()
    told: list[tuple[int, int]] = []
    assert ledger.verify(lambda done, total: told.append((done, total))) == Report(10, 5)
    assert told == [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10), (10, 10)]
    cheat.execute("UPDATE events SET topic = 'ledger:SettingsCreated' WHERE position = 7")
    assert fault(ledger).startswith("partition 0, position 7: ")


def test_every_partition_is_verified(place: TestDatabase, ledger: Ledger) -> None:
    """A fault in the second partition is found after the first one passed."""
    migrate(place.owner_url, partitions=2)
    ids = {UUID(int=uuid4().int // 2 * 2 + odd) for odd in (0, 1)}
    handles = [ledger.create_site(site_id) for site_id in ids]
    assert {handle.record().partition for handle in handles} == {0, 1}
    assert ledger.verify() == Report(2, 2)
    with psycopg.connect(place.admin_url) as connection:
        connection.execute("UPDATE current_settings SET version = 5 WHERE partition = 1")
    report = ledger.verify()
    assert (report.events, report.sites) == (2, 2)
    assert "version 5" in str(report.fault)


# --- altered events ------------------------------------------------------------------------------


def test_an_altered_event_is_found(ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat) -> None:
    """One changed byte in an event breaks its leaf, and the event is named."""
    cheat.execute(
        """
        UPDATE events SET state = convert_to(
            replace(convert_from(state, 'UTF8'), 'ON_ORDER_PAID', 'ON_ORDER_PAIX'), 'UTF8'
        ) WHERE position = 5
        """
    )
    assert fault(ledger) == (
        "partition 0, position 5: the leaf hash does not bind this event to the one before it"
    )


@pytest.mark.parametrize("position", [1, 4, 7])
def test_a_changed_leaf_is_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat, position: int
) -> None:
    """A leaf that is not the event's is found at the event, first, middle or last."""
    cheat.execute(
        "UPDATE events SET leaf_hash = sha256(leaf_hash) WHERE position = %s", (position,)
    )
    assert fault(ledger).startswith(f"partition 0, position {position}: the leaf hash")


def test_a_forged_leaf_is_found_at_the_next_event(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """An event altered together with its own leaf no longer carries the one after it."""
    row = cheat.execute("SELECT * FROM events WHERE position = 1").fetchone()
    assert row is not None
    state = bytes(row["state"]).replace(b"false", b"true")
    forged = leaf_hash(row["originator_id"], 1, None, row["topic"], state)
    cheat.execute(
        "UPDATE events SET state = %s, leaf_hash = %s WHERE position = 1", (state, forged)
    )
    assert fault(ledger).startswith("partition 0, position 3: the leaf hash")


@pytest.mark.parametrize(
    ("name", "position", "edit", "problem"),
    [
        (
            "settings",
            3,
            lambda facts: facts["settings"].update(createInvoice=False),
            "the changes do not lead from the settings before",
        ),
        (
            "true became 1",
            3,
            lambda facts: facts["settings"].update(createInvoice=1),
            "the changes do not lead from the settings before",
        ),
        (
            "from",
            3,
            lambda facts: facts["changes"]["createInvoice"].update({"from": True}),
            "the changes do not lead from the settings before",
        ),
        (
            "no change",
            5,
            lambda facts: facts["changes"].clear(),
            "the changes do not lead from the settings before",
        ),
        (
            "creation",
            1,
            lambda facts: facts["settings"].update(createInvoice=True),
            "the changes do not lead from the settings before",
        ),
        (
            "time",
            5,
            lambda facts: facts.update(timestamp="2001-01-01T00:00:00.000000Z"),
            "the timestamp does not move on",
        ),
        (
            "site",
            4,
            lambda facts: facts.update(site_id=str(uuid4())),
            "site and kind do not give the originator's id",
        ),
        (
            "kind",
            4,
            lambda facts: facts.update(kind="wix.other"),
            "site and kind do not give the originator's id",
        ),
        (
            "spaces",
            4,
            lambda facts: json.dumps(facts).encode(),
            "the stored bytes are not canonical",
        ),
        ("no JSON", 4, lambda facts: b"nonsense", "the stored facts cannot be read"),
        ("no object", 4, lambda facts: b"[]", "the stored facts cannot be read"),
        ("a float", 4, lambda facts: b'{"a":0.5}', "the stored facts cannot be read"),
        ("no UTF-8", 4, lambda facts: b"\xff", "the stored facts cannot be read"),
        ("no settings", 4, lambda facts: facts.pop("settings"), "the stored facts cannot be read"),
        ("no time", 2, lambda facts: facts.pop("timestamp"), "the stored facts cannot be read"),
    ],
)
def test_a_forgery_with_all_its_leaves_is_found_by_its_content(
    ledger: Ledger,
    sites: tuple[UUID, UUID],
    cheat: Cheat,
    name: str,
    position: int,
    edit: Callable[[dict[str, Any]], Any],
    problem: str,
) -> None:
    """Even where every leaf is computed anew, facts that contradict each other are found."""
    rewrite(cheat, position, edit)
    found_at = 3 if name == "creation" else position
    assert fault(ledger).startswith(f"partition 0, position {found_at}: {problem}")


def test_facts_of_a_later_program_are_no_fault(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """Unknown keys, at the top or beside from and to, are read past."""

    def extend(facts: dict[str, Any]) -> None:
        facts["aNewFact"] = {"deep": [None]}
        for ends in facts["changes"].values():
            ends["note"] = "new"

    rewrite(cheat, 4, extend)
    cheat.execute(
        "UPDATE current_settings SET leaf_hash = newest.leaf_hash FROM events AS newest "
        "WHERE newest.originator_id = current_settings.originator_id "
        "AND newest.originator_version = current_settings.version"
    )
    assert ledger.verify() == Report(7, 2)


def test_an_unknown_topic_is_named(ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat) -> None:
    """An event of a kind that this program does not know stops the check, rightly hashed or not."""
    row = cheat.execute("SELECT * FROM events WHERE position = 7").fetchone()
    before = cheat.execute("SELECT leaf_hash FROM events WHERE position = 5").fetchone()
    assert row is not None
    assert before is not None
    topic = "ledger:SettingsForgotten"
    leaf = leaf_hash(
        row["originator_id"], 4, bytes(before["leaf_hash"]), topic, bytes(row["state"])
    )
    cheat.execute("UPDATE events SET topic = %s, leaf_hash = %s WHERE position = 7", (topic, leaf))
    assert "position 7 has the unknown topic 'ledger:SettingsForgotten'" in fault(ledger)


# --- missing and moved events --------------------------------------------------------------------


def test_a_removed_event_leaves_a_gap(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """Positions are dense: an event that was taken out is missed where it stood."""
    cheat.execute("DELETE FROM events WHERE position = 3")
    assert fault(ledger) == "partition 0, position 4: follows position 2: there is a gap"


def test_a_removed_event_is_missed_though_the_gap_was_closed(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """Moving the later events up does not help: the site's versions have a gap then."""
    cheat.execute("DELETE FROM events WHERE position = 3")
    for position in range(4, 8):
        cheat.execute(
            "UPDATE events SET position = %s WHERE position = %s", (position - 1, position)
        )
    assert fault(ledger) == "partition 0, position 4: has version 3 where 2 is next"


def test_the_first_event_is_missed(ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat) -> None:
    """The log begins at position 1."""
    cheat.execute("DELETE FROM events WHERE position = 1")
    assert fault(ledger) == "partition 0, position 2: follows position 0: there is a gap"


def test_the_last_event_is_missed_by_the_current_settings(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """A log cut short contradicts the current row, which is named with its site."""
    cheat.execute("DELETE FROM events WHERE position = 7")
    assert fault(ledger) == (
        f"site {sites[0]}, wix.ecom.v1.orders_settings: "
        "the current settings (version 4) are not what the log gives"
    )


def swap(cheat: Cheat, one: int, other: int) -> None:
    for old, new in ((one, 1000), (other, one), (1000, other)):
        cheat.execute("UPDATE events SET position = %s WHERE position = %s", (new, old))


def test_swapped_positions_within_a_site_are_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """Two events of one site that changed places are out of version order."""
    swap(cheat, 3, 5)
    assert fault(ledger) == "partition 0, position 3: has version 3 where 2 is next"


def test_swapped_positions_of_two_sites_newest_events_are_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """Two sites' newest events that changed places contradict the positions on current rows."""
    swap(cheat, 6, 7)
    assert "the current settings" in fault(ledger)


def test_an_event_put_in_between_is_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """An event repeated at the end of the log has a version that was there before."""
    cheat.execute(
        """
        INSERT INTO events SELECT partition, 8, originator_id, 9, topic, state, leaf_hash
        FROM events WHERE position = 7
        """
    )
    assert fault(ledger) == "partition 0, position 8: has version 9 where 5 is next"


# --- current settings ----------------------------------------------------------------------------

STALE = """
version = 3, position = 5, leaf_hash = old.leaf_hash,
settings = (convert_from(old.state, 'UTF8')::jsonb) -> 'settings'
FROM events AS old WHERE old.position = 5 AND
"""


@pytest.mark.parametrize(
    "cheating",
    [
        """settings = settings || '{"createInvoice": false}' WHERE""",
        """settings = settings || '{"createInvoice": 1}' WHERE""",
        """settings = settings || '{"createInvoice": 1.0}' WHERE""",
        """settings = settings || '{"extra": null}' WHERE""",
        "position = position + 1 WHERE",
        "version = version + 1 WHERE",
        "leaf_hash = sha256(leaf_hash) WHERE",
        "updated_at = now() WHERE",
        "created_at = now() WHERE",
        "kind = 'wix.other' WHERE",
        "originator_id = gen_random_uuid() WHERE",
        STALE,
    ],
)
def test_a_current_row_that_is_not_the_logs_is_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat, cheating: str
) -> None:
    """Whatever was altered in a current row, or left behind by a lost update, is found."""
    statement = f"UPDATE current_settings SET {cheating} site_id = %(site)s"
    assert cheat.execute(statement.encode(), {"site": sites[0]}).rowcount == 1
    said = fault(ledger)
    assert said.startswith(f"site {sites[0]}, ")
    assert said.endswith("are not what the log gives")


def test_a_missing_current_row_is_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """A site of the log that has no current settings is named."""
    cheat.execute("DELETE FROM current_settings WHERE site_id = %s", (sites[1],))
    assert fault(ledger) == (
        f"site {sites[1]}, wix.ecom.v1.orders_settings: no current settings are kept"
    )


def test_a_current_row_from_nowhere_is_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """Settings of which the log knows nothing are a fault."""
    stranger = uuid4()
    cheat.execute(
        """
        INSERT INTO current_settings
        SELECT partition, gen_random_uuid(), %s, kind, version, position, leaf_hash, settings,
               created_at, updated_at
        FROM current_settings WHERE site_id = %s
        """,
        (stranger, sites[0]),
    )
    assert fault(ledger).startswith(f"site {stranger}, ")


@pytest.mark.parametrize(
    "cheating",
    [
        "UPDATE actors SET subject_id = 'somebody else'",
        "UPDATE actors SET type = 'MEMBER'",
        "UPDATE actors SET salt = sha256(salt)",
        "UPDATE reasons SET text = 'another reason'",
    ],
)
def test_a_kept_name_or_reason_that_was_changed_is_found(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat, cheating: str
) -> None:
    """Whoever rewrites who acted, or why, beside the log is caught by the event's commitment."""
    ledger.site(sites[0]).update({"createInvoice": True}, reason="the true reason")
    assert cheat.execute(cheating.encode()).rowcount > 0
    assert fault(ledger).endswith("is not what the event commits to")


def test_an_erased_name_or_reason_is_no_fault(
    ledger: Ledger, sites: tuple[UUID, UUID], cheat: Cheat
) -> None:
    """Erasing deletes what is kept beside the log and leaves the log whole."""
    ledger.site(sites[0]).update({"createInvoice": True}, reason="to be forgotten")
    cheat.execute("DELETE FROM actors")
    cheat.execute("DELETE FROM reasons")
    assert ledger.verify().fault is None
