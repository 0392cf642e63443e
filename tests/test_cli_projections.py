"""Whoever follows the log keeps the history up with it, and a rebuild changes no answer."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from command_line import PATIENCE, CommandLine, interrupted, listening_address
from own_process import OwnProcess

from ledger import Ledger

READ = "SCOPE.DC-STORES.READ-ORDERS"
SECRET_KEY = "correct-horse-battery-staple-0123456789"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """A ledger on an embedded server, which other processes join."""
    with Ledger.open(data_dir=tmp_path_factory.mktemp("cli") / "data") as ledger:
        yield ledger


@pytest.fixture(scope="module")
def cli(ledger):
    """The command line on the same data directory."""
    return CommandLine(ledger.config.data_dir)


def caught_up(ledger):
    """The history's status, once somebody follows the log and has all of it."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while True:
        [status] = [row for row in ledger.projections.status() if row.name == "settings_history"]
        if status.followed and status.lag_events == 0:
            return status
        assert time.monotonic() < deadline, status
        pause.wait(0.05)


def test_project_follows_until_it_is_asked_to_stop(cli, ledger):
    """``project`` holds the partition, takes on what is recorded, and ends with 0."""
    with cli.started("project") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Following the log\n"
        ledger.create_site().update({"createInvoice": True})
        status = caught_up(ledger)
        assert status.position == status.head > 1
        ended, errors = interrupted(process, signal.SIGTERM)
    assert (ended, "Traceback" in errors) == (0, False)


def test_serve_follows_and_its_end_keeps_nobody_waiting(cli, ledger):
    """A long pull is answered when ``serve`` is asked to stop, and nothing is said of it."""
    site = ledger.create_site()
    app = ledger.directory.create_app("Polling", [READ])
    instance = ledger.directory.install(app.app_id, site.site_id).instance_id
    token = ledger.access.grants.grant(str(app.app_id), app.app_secret, str(instance))
    with cli.started("serve", "--port", 0, "--no-publish") as process:
        address = listening_address(process)
        assert caught_up(ledger).lag_seconds == 0
        with ThreadPoolExecutor() as threads:
            headers = {"Authorization": token}
            url = f"{address}/ledger/v1/events?wait=30"
            waiting = threads.submit(httpx.get, url, headers=headers, timeout=60)
            # Asked behind the one that waits, and answered before it.
            assert httpx.get(f"{address}/readyz").status_code == 200
            ended, errors = interrupted(process)
            try:
                assert waiting.result().json()["events"] == []
            except httpx.TransportError:
                pass  # It had not even connected when the server was asked to stop.
    assert (ended, errors) == (0, "")


def test_a_rebuild_changes_no_answer(cli, ledger):
    """``projections rebuild`` reads the whole log; history and check say the same after it."""
    site = ledger.create_site()
    site.update({"createInvoice": True})
    before = site.history.changes()
    rebuilt = cli.json("projections", "rebuild", "settings_history")
    assert rebuilt["name"] == "settings_history"
    assert rebuilt["events"] >= 2
    assert site.history.changes() == before
    assert all(checked.fault is None for checked in ledger.projections.check())


def test_a_rebuild_without_the_owner_is_refused(fresh_database, monkeypatch, capsys):
    """The serving role may not make tables: the sentence names what is needed."""
    database = fresh_database()
    with Ledger.open(database_url=database.server_url, secret_key=SECRET_KEY) as ledger:
        ledger.create_site()
    cli = OwnProcess(database.server_url, SECRET_KEY, monkeypatch, capsys)
    told = cli.refusal("projections", "rebuild", "settings_history")
    assert "LEDGER_MIGRATION_URL" in told


def test_an_export_to_stdout_holds_nothing_else(cli, ledger):
    """``--out -`` writes the format and no word beside it."""
    site = str(ledger.create_site().site_id)
    [line] = cli.words("export", "--out", "-", "--site", site).splitlines()
    assert json.loads(line)["site_id"] == site
