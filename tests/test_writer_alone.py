"""A caller who finds nobody at work records by himself, and leaves to the thread what lasts."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.evidence import examine
from faults.locks import cut, held_lock
from faults.opening import SOMEONE, opened, submit, writer_of
from faults.waiting import eventually

from ledger.batches import MOST_AT_ONCE
from ledger.errors import LedgerError, OutcomeUnknown, Unavailable
from ledger.flight import Draft

INVOICE = {"createInvoice": True}


@pytest.fixture
def database(fresh_database):
    return fresh_database()


@pytest.fixture
def ledger(database):
    with opened(database.server_url) as ledger:
        yield ledger


@pytest.fixture
def threads():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def site(ledger, monkeypatch):
    """A site that the writer knows, with its thread at rest."""
    # However slow the machine, the clock that was read with the site is still relied on.
    monkeypatch.setattr("ledger.memory.CLOCK_LIFE", 3600.0)
    site = ledger.create_site()
    site.update({}, by=SOMEONE)
    eventually(lambda: not writer_of(ledger)._turn.locked())
    return site


@pytest.fixture
def launched_by(ledger, monkeypatch):
    """The names of the threads that offered batches."""
    names, batches = [], writer_of(ledger)._batches
    truly = batches._launch

    def launch() -> None:
        names.append(threading.current_thread().name)
        truly()

    monkeypatch.setattr(batches, "_launch", launch)
    return names


def test_a_lone_caller_hands_nothing_over(ledger, site, threads, launched_by):
    """Where nobody else is at work, the change is decided and offered by whoever asks for it."""
    record = threads.submit(site.update, INVOICE, by=SOMEONE).result()
    assert (record.version, record.settings["createInvoice"]) == (3, True)
    (name,) = launched_by
    assert name.startswith("ThreadPoolExecutor")
    assert not writer_of(ledger)._in_flight
    examine(ledger.database_url)


def test_the_main_thread_only_waits(site, launched_by):
    """A handler of signals may raise there at any point, so nothing shared is touched there."""
    site.update(INVOICE, by=SOMEONE)
    (name,) = launched_by
    assert name.startswith("ledger writer")


def test_an_interrupted_main_thread_leaves_a_sound_writer(ledger, site, monkeypatch):
    """Ctrl-C while a change is waited for: the change is recorded, and so is the next."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with held_lock(ledger.database_url) as lock:
            threading.Thread(
                target=lambda: (lock.until_waiting(), os.kill(os.getpid(), signal.SIGUSR1))
            ).start()
            with pytest.raises(KeyboardInterrupt):
                site.update(INVOICE, by=SOMEONE)
            lock.release()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert site.update({}, by=SOMEONE).version == 4
    examine(ledger.database_url)


def test_whoever_comes_meanwhile_is_next(ledger, site, threads):
    """Changes that arrive while a caller records wait for the thread, and are recorded in order."""
    with held_lock(ledger.database_url) as lock:
        alone = threads.submit(site.update, INVOICE, by=SOMEONE)
        lock.until_waiting()
        others = [submit(ledger, site.site_id, {}, f"later/{number}") for number in range(3)]
        lock.release()
        assert [change.result().version for change in (alone, *others)] == [3, 4, 5, 6]
    examine(ledger.database_url)


def test_nobody_waits_beyond_the_deadline(database, threads):
    """A server that does not answer is left to the thread, which records what comes later."""
    with opened(database.server_url, write_timeout=0.4) as ledger:
        site = ledger.create_site()
        eventually(lambda: _updated(site))
        with held_lock(ledger.database_url) as lock:
            sent = threads.submit(site.update, INVOICE, by=SOMEONE)
            lock.until_waiting()
            waited = threads.submit(site.update, INVOICE, by=SOMEONE)
            assert isinstance(sent.exception(), OutcomeUnknown)
            assert isinstance(waited.exception(), Unavailable)
            lock.release()
        eventually(lambda: not writer_of(ledger)._in_flight)
        eventually(lambda: _updated(site))
    examine(database.server_url)


def _updated(site) -> bool:
    try:
        site.update({}, by=SOMEONE)
    except LedgerError:
        return False
    return True


def test_a_lost_connection_is_left_to_the_thread(ledger, site, threads):
    """What was sent is offered again, byte by byte, by the thread; the caller gets its answer."""
    with held_lock(ledger.database_url) as lock:
        change = threads.submit(site.update, INVOICE, by=SOMEONE)
        lock.until_waiting()
        cut(writer_of(ledger))
        lock.release()
        assert change.result().version == 3
    assert examine(ledger.database_url)


def test_what_a_server_might_not_take_in_at_once_is_left_to_the_thread(
    ledger, site, threads, monkeypatch, launched_by
):
    """A frozen server's buffers hold so much: a larger offer could block whoever sends it."""
    monkeypatch.setattr(Draft, "size", property(lambda _: MOST_AT_ONCE + 1))
    assert threads.submit(site.update, INVOICE, by=SOMEONE).result().version == 3
    (name,) = launched_by
    assert name.startswith("ledger writer")


def test_a_mistake_is_answered_and_the_turn_given_back(ledger, site, threads, monkeypatch):
    """Whatever fails while a caller records, it is told, and the next change is recorded."""

    def mistaken(*_: object) -> None:
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patched:
        patched.setattr(writer_of(ledger)._batches, "_launch", mistaken)
        patched.setattr(writer_of(ledger)._queue, "put", mistaken)
        with pytest.raises(OutcomeUnknown):
            threads.submit(site.update, INVOICE, by=SOMEONE).result(30)
    assert threads.submit(site.update, INVOICE, by=SOMEONE).result().version >= 3
    examine(ledger.database_url)


def test_a_closed_ledger_records_nothing_more(database, threads):
    """After close a lone caller is refused like everybody else."""
    ledger = opened(database.server_url)
    site = ledger.create_site()
    site.update({}, by=SOMEONE)
    ledger.close()
    with pytest.raises(Unavailable, match="closing"):
        threads.submit(site.update, INVOICE, by=SOMEONE).result()


def test_callers_by_themselves_and_the_thread_take_turns_without_a_gap(ledger, site, threads):
    """Lone callers, crowds and futures mixed: every change is recorded once, in one sequence."""

    def some(number: int) -> list[int]:
        if number % 2:
            futures = [submit(ledger, site.site_id, INVOICE) for _ in range(5)]
            return [future.result().version for future in futures]
        return [site.update(INVOICE, by=SOMEONE).version for _ in range(20)]

    versions = [version for done in threads.map(some, range(16)) for version in done]
    assert sorted(versions) == list(range(3, 3 + len(versions)))
    examine(ledger.database_url)
