"""Answers that hold in odd cases: after lost attempts, in halves of a batch, after mistakes."""

from __future__ import annotations

import psycopg
import pytest
from faults.evidence import examine
from faults.locks import cut, held_lock
from faults.opening import opened, provenance, submit, update, writer_of
from faults.refusing import REFUSE
from faults.waiting import eventually
from psycopg.rows import dict_row

from ledger import eventlog
from ledger.errors import ChangeRefused, LedgerError, OutcomeUnknown
from ledger.idempotency import Idempotency
from ledger.memory import Memory
from ledger.migrate import migrate
from ledger.orders_settings import ORDERS_SETTINGS

INVOICE = {"createInvoice": True}


@pytest.fixture
def database(fresh_database):
    return fresh_database()


@pytest.fixture
def ledger(database):
    with opened(database.server_url) as ledger:
        yield ledger


def test_a_refusal_does_not_speak_for_an_attempt_that_was_lost(database, ledger):
    """Where the first attempt may still be recorded, a refusal of the second is no answer."""
    site = ledger.create_site().site_id
    with held_lock(database.server_url) as lock:
        change = submit(ledger, site, INVOICE, "lost")
        lock.until_waiting()
        with psycopg.connect(database.owner_url) as owner:
            owner.execute("ALTER FUNCTION append_events RENAME TO append_elsewhere")
        cut(writer_of(ledger))
        with pytest.raises(OutcomeUnknown, match="migrate"):
            change.result()
        lock.release()
        eventually(lambda: not lock.waiting())
    eventually(lambda: examine(database.server_url).tags == {"lost": 1})


def test_halves_of_a_refused_batch_keep_the_order(database, ledger, monkeypatch):
    """Where a site of the first half must run again, its changes in the second half wait."""
    with psycopg.connect(database.owner_url) as connection:
        connection.execute(REFUSE)
    site = ledger.create_site().site_id
    recording, offered = writer_of(ledger)._recording, []
    truly = recording.answer_to

    def answer_to(flight):
        offered.append(len(flight.commands))
        return {} if len(offered) == 3 else truly(flight)

    with held_lock(ledger.database_url) as lock:
        submit(ledger, site, {}, "ahead")
        lock.until_waiting()
        monkeypatch.setattr(recording, "answer_to", answer_to)
        tags = ["change/0", "change/1", "change/2", "refused"]
        *changes, refused = [submit(ledger, site, INVOICE, tag) for tag in tags]
        lock.release()
        assert isinstance(refused.exception(), ChangeRefused)
        assert [change.result().version for change in changes] == [3, 4, 5]
    assert offered[:4] == [1, 4, 2, 4]
    examine(ledger.database_url)


def test_a_repeat_that_cannot_be_read_fails_alone(ledger, monkeypatch):
    """A repeated request whose first answer cannot be read takes no other change with it."""
    site, other = (ledger.create_site().site_id for _ in range(2))
    key = Idempotency("credential", "key", b"request")
    update(ledger, site, INVOICE, idempotency=key)

    def unreadable(*_: object) -> None:
        raise LedgerError("a broken page")

    monkeypatch.setattr(eventlog, "records_at", unreadable)
    with held_lock(ledger.database_url) as lock:
        submit(ledger, other, {}, "ahead")
        lock.until_waiting()
        plain = submit(ledger, other, INVOICE, "plain")
        again = submit(ledger, site, INVOICE, idempotency=key)
        lock.release()
        assert plain.result().version == 3
        with pytest.raises(LedgerError, match="a broken page"):
            again.result()


def test_a_mistake_over_what_was_just_taken_is_answered(ledger, monkeypatch):
    """Whatever fails between the queue and the batch, nobody waits for ever."""
    site = ledger.create_site().site_id

    def mistaken(*_: object) -> bool:
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patched:
        patched.setattr(Memory, "covers", mistaken)
        with pytest.raises(OutcomeUnknown):
            submit(ledger, site, INVOICE).result(30)
    assert update(ledger, site, INVOICE).version == 2


def test_the_serving_role_may_append_where_nobody_may_call_functions(postgres):
    """A database that grants PUBLIC no function by default is migrated and served like others."""
    with postgres.lent("ledger_hardened") as hardened:
        with psycopg.connect(hardened.owner_url) as owner:
            owner.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        migrate(hardened.owner_url, serving_role="ledger_server")
        with opened(hardened.server_url) as ledger:
            why, key = provenance(reason="because"), Idempotency("credential", "key", b"request")
            site = ledger.create_site().site_id
            change = ledger.submit(site, ORDERS_SETTINGS, INVOICE, why, idempotency=key)
            assert change.result().version == 2


def test_what_was_erased_is_not_written_again_by_a_late_attempt(database, ledger, monkeypatch):
    """An attempt that comes after another succeeded finds the event, and leaves the rest alone."""
    site = ledger.create_site().site_id
    link, offered = writer_of(ledger)._link, []
    truly = link.answer

    def answer(commands, parameters):
        offered.append(parameters)
        return truly(commands, parameters)

    monkeypatch.setattr(link, "answer", answer)
    ledger.submit(site, ORDERS_SETTINGS, INVOICE, provenance(reason="because")).result()
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("DELETE FROM reasons")
    with psycopg.connect(database.server_url, autocommit=True, row_factory=dict_row) as late:
        appending = eventlog.prepare_append(late)
        appending.send(offered[-1])
        assert eventlog.appended_in(appending.answer())[0] == [2]
        assert late.execute("SELECT count(*) AS n FROM reasons").fetchone() == {"n": 0}
