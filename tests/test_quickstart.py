"""The quickstart does the whole job, for a program and for a newcomer."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess

import jwt
import pytest
from command_line import CommandLine, interrupted
from own_process import OwnProcess

from ledger import Ledger, quickstart
from ledger.errors import ConfigError
from ledger.quickstart import Receiver
from ledger.serving import Service

SECRET_KEY = "correct-horse-battery-staple-0123456789"

SHAPE = {
    "site_id",
    "app_id",
    "instance_id",
    "app_secret",
    "public_key_pem",
    "api_key",
    "base_url",
    "before",
    "after",
    "changes",
    "delivery",
    "data_dir",
}


@pytest.fixture
def cli(tmp_path):
    """The command line on an empty data directory, and whatever port is free."""
    return CommandLine(tmp_path / "data", {"LEDGER_PORT": "0"})


def test_the_whole_job_as_one_document(cli):
    """A PATCH and a webhook went through real HTTP; the webhook verifies with the printed key."""
    told = cli.json("quickstart", "--once")
    assert told.keys() == SHAPE
    assert told["data_dir"] == str(cli.data_dir)
    before, after = told["before"]["ordersSettings"], told["after"]["ordersSettings"]
    assert (before["createInvoice"], after["createInvoice"]) == (False, True)
    assert after["updatedDate"] > before["updatedDate"] == before["createdDate"]
    assert told["changes"] == {"createInvoice": {"from": False, "to": True}}

    delivery = told["delivery"]
    assert delivery.keys() == {"jwt", "event", "verified", "latency_ms"}
    assert delivery["verified"] is True
    assert 0 < delivery["latency_ms"] < 30_000
    claims = jwt.decode(delivery["jwt"], told["public_key_pem"], algorithms=["RS256"])
    envelope = json.loads(claims["data"])
    assert envelope["instanceId"] == told["instance_id"]
    assert envelope["eventType"] == "wix.ecom.v1.orders_settings_updated"
    assert json.loads(envelope["data"]) == delivery["event"]
    assert delivery["event"]["updatedEvent"]["currentEntity"]["createInvoice"] is True

    newest, created = cli.json("history", told["site_id"])
    assert newest["changes"] == told["changes"]
    assert created["version"] == 1
    assert cli.json("subscription", "list") == []


def test_a_second_quickstart_works_too(cli):
    """The same data directory serves again; each run has a site of its own."""
    first, second = (cli.json("quickstart", "--once") for _ in range(2))
    assert first["site_id"] != second["site_id"]
    assert {site["site_id"] for site in cli.json("site", "list")} == {
        first["site_id"],
        second["site_id"],
    }
    assert cli.json("check")["ok"] is True


def test_the_story_ends_with_lines_to_paste(cli):
    """Told in words, it serves on: the pasted curl works, its webhook is told, Ctrl-C ends it."""
    with cli.started("quickstart") as process:
        story = ""
        while "Ctrl-C ends this." not in story:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            story += line
        assert "createInvoice: false → true" in story
        assert "signature holds" in story
        get, patch = re.findall(r"^curl (?:.*\\\n)*.*$", story, re.MULTILINE)
        assert '"createInvoice":true' in _shell(get).replace(" ", "")
        assert "ON_ORDER_PAID" in _shell(patch)
        told = process.stdout.readline() + process.stdout.readline()
        assert "A webhook arrived" in told
        assert "inventoryUpdateTrigger was ON_ORDER_PLACED" in told
        status, errors = interrupted(process)
        assert status == 0
        assert "Traceback" not in errors
    assert cli.json("subscription", "list") == []


def test_another_quickstart_takes_a_free_port(cli):
    """Two quickstarts at once share the data; the second one says that it moved."""
    usual = CommandLine(cli.data_dir)
    with usual.started("quickstart") as first:
        while "Ctrl-C" not in first.stdout.readline():
            pass
        told = usual.json("quickstart", "--once")
        assert told["delivery"]["verified"] is True
        assert interrupted(first, signal.SIGTERM)[0] == 0


def test_it_says_at_once_why_another_publisher_keeps_its_webhook_back(cli):
    """A plain ``serve`` on the same data may not call this machine: one sentence, no long wait."""
    with cli.serving():
        said = cli.refusal("quickstart", "--once")
    assert "LEDGER_ALLOWED_NETWORKS=127.0.0.0/8" in said
    assert cli.json("subscription", "list") == []


class SilentService:
    """A service that answers requests, but never delivers: it waits to be stopped."""

    def __init__(self, ledger, failure=None):
        self._service = Service(ledger, host="127.0.0.1", port=0, publish=False)
        self._failure = failure
        self.address = self._service.address

    async def run(self, stop):
        if self._failure is not None:
            raise self._failure
        await self._service.run(stop)

    def close(self):
        self._service.close()


async def _quickstart(ledger, service, stop):
    told = []
    nothing = {"told": told.append, "heard": told.append, "once": True}
    try:
        done = await asyncio.wait_for(quickstart.run(ledger, service, stop, **nothing), 20)
    finally:
        service.close()
    assert told == []
    assert ledger.directory.subscriptions() == []
    return done


async def test_whoever_stops_it_waits_for_no_webhook(fresh_database, monkeypatch):
    """A stop while the webhook is awaited ends the demo, and its subscription."""
    stop = asyncio.Event()
    monkeypatch.setattr(Receiver, "first", lambda *_: _stopping(stop))
    with Ledger.open(database_url=fresh_database().server_url, secret_key=SECRET_KEY) as ledger:
        assert await _quickstart(ledger, SilentService(ledger), stop) is False


async def _stopping(stop):
    stop.set()
    await asyncio.Event().wait()


async def test_a_service_that_fails_is_heard_of(fresh_database):
    """What ended the service is raised at once; nobody waits for its answers."""
    with Ledger.open(database_url=fresh_database().server_url, secret_key=SECRET_KEY) as ledger:
        service = SilentService(ledger, ConfigError("It cannot serve."))
        with pytest.raises(ConfigError, match="It cannot serve"):
            await _quickstart(ledger, service, asyncio.Event())


def test_a_story_that_was_stopped_is_no_success(database_url, monkeypatch, capsys):
    """Stopped before its webhook came, it exits with 130 as shells have it, and says nothing."""

    async def stopped(*_, **__):
        return False

    monkeypatch.setattr(quickstart, "run", stopped)
    cli = OwnProcess(database_url, SECRET_KEY, monkeypatch, capsys)
    assert cli.run("quickstart", "--port", 0) == (130, "", "")


def _shell(command: str) -> str:
    return subprocess.run(
        command, shell=True, check=True, capture_output=True, text=True, timeout=30
    ).stdout
