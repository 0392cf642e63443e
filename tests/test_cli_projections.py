"""Whoever follows the log keeps the history up with it, and a rebuild changes no answer."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from command_line import CommandLine, interrupted, listening_address
from own_process import OwnProcess

from ledger import Ledger
from ledger.embedded import EmbeddedServer

READ = "SCOPE.DC-STORES.READ-ORDERS"
SECRET_KEY = "correct-horse-battery-staple-0123456789"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line on a data directory whose server runs as long as the module's tests."""
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(data_dir)


def caught_up(cli):
    """The history's status, once it has all that the log has; asked until then."""
    for _ in range(30):
        [status] = [
            row for row in cli.json("projections", "status") if row["name"] == "settings_history"
        ]
        if status["followed"] and status["lag_events"] == 0:
            return status
    raise AssertionError(status)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_project_follows_until_it_is_asked_to_stop(cli, number):
    """``project`` holds the partition, takes on what is recorded, and ends with 0."""
    site = cli.json("site", "create")["site_id"]
    with cli.started("project") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Following the log\n"
        cli.words("settings", "update", "--site", site, "--set", "createInvoice=true")
        status = caught_up(cli)
        assert status["position"] == status["head"] > 1
        ended, _, errors = interrupted(process, number)
    assert ended == 0
    assert "Traceback" not in errors


def test_serve_follows_beside_the_api(cli):
    """While ``serve`` runs, nobody else needs to follow the log."""
    site = cli.json("site", "create")["site_id"]
    with cli.started("serve", "--port", 0, "--no-publish") as process:
        listening_address(process)
        cli.words("settings", "update", "--site", site, "--set", "createInvoice=true")
        assert caught_up(cli)["lag_seconds"] == 0
        ended, _, errors = interrupted(process)
    assert (ended, "Traceback" in errors) == (0, False)


def test_a_request_that_waits_does_not_hold_up_the_end(cli):
    """A long pull is answered when the server is asked to stop, and nothing is said of it."""
    site = cli.json("site", "create")["site_id"]
    app = cli.json("app", "create", "--name", "Polling", "--scope", READ)
    instance = cli.json("app", "install", app["app_id"], site)["instance_id"]
    asked = {"grant_type": "client_credentials", "instance_id": instance}
    asked |= {"client_id": app["app_id"], "client_secret": app["app_secret"]}
    with cli.started("serve", "--port", 0, "--no-publish") as process:
        address = listening_address(process)
        token = httpx.post(f"{address}/oauth2/token", json=asked).json()["access_token"]
        with ThreadPoolExecutor() as threads:
            headers = {"Authorization": token}
            url = f"{address}/ledger/v1/events?wait=30"
            waiting = threads.submit(httpx.get, url, headers=headers, timeout=60)
            # Answered behind the one that waits, which was sent before.
            assert httpx.get(f"{address}/readyz").status_code == 200
            ended, _, errors = interrupted(process)
            try:
                assert waiting.result().json()["events"] == []
            except httpx.TransportError:
                pass  # It had not even connected when the server was asked to stop.
    assert (ended, errors) == (0, "")


def test_a_rebuild_changes_no_answer(cli):
    """``projections rebuild`` reads the whole log; history and check say the same after it."""
    site = cli.json("site", "create")["site_id"]
    before = cli.json("history", site)
    rebuilt = cli.json("projections", "rebuild", "settings_history")
    assert rebuilt["name"] == "settings_history"
    assert rebuilt["events"] >= 1
    assert cli.json("history", site) == before
    assert cli.json("projections", "check")["ok"] is True
    assert "Rebuilt settings_history from" in cli.words(
        "projections", "rebuild", "settings_history"
    )


def test_a_rebuild_without_the_owner_is_refused(fresh_database, monkeypatch, capsys):
    """The serving role may not make tables: the sentence names what is needed."""
    database = fresh_database()
    with Ledger.open(database_url=database.server_url, secret_key=SECRET_KEY) as ledger:
        ledger.create_site()
    cli = OwnProcess(database.server_url, SECRET_KEY, monkeypatch, capsys)
    told = cli.refusal("projections", "rebuild", "settings_history")
    assert "LEDGER_MIGRATION_URL" in told


def test_an_export_to_stdout_holds_nothing_else(cli):
    """``--out -`` writes the format and no word beside it."""
    site = cli.json("site", "create")["site_id"]
    [line] = cli.words("export", "--out", "-", "--site", site).splitlines()
    assert json.loads(line)["site_id"] == site
