"""The command line does what it says, in one JSON document or in words."""

from __future__ import annotations

import json
import subprocess
import sys
from uuid import UUID, uuid4

import pytest
from command_line import CommandLine

from ledger.embedded import EmbeddedServer

MANAGE = "SCOPE.DC-STORES.MANAGE-ORDERS"
READ = "SCOPE.DC-STORES.READ-ORDERS"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line on a data directory whose server runs as long as the module's tests."""
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(data_dir)


@pytest.fixture(scope="module")
def site(cli):
    """A site that tests may change."""
    return cli.json("site", "create", "--name", "Flower shop")["site_id"]


@pytest.fixture(scope="module")
def app(cli):
    """An app that may receive the event."""
    return cli.json("app", "create", "--name", "Invoices", "--scope", READ)


def test_a_site_is_created_with_the_id_asked_for(cli):
    """``site create`` answers the site and its partition, and ``site list`` shows it."""
    wanted = str(uuid4())
    created = cli.json("site", "create", "--id", wanted, "--name", "Bakery")
    assert created == {"site_id": wanted, "partition": 0}
    [listed] = [site for site in cli.json("site", "list") if site["site_id"] == wanted]
    assert listed.keys() == {"site_id", "partition", "name", "created_at"}
    assert listed["name"] == "Bakery"
    assert "Bakery" in cli.words("site", "list")


def test_an_id_is_taken_once(cli, site):
    """A second site of the same id is refused in a sentence."""
    assert cli.refusal("site", "create", "--id", site) == f"The site {site} exists already."


def test_an_app_goes_through_its_life(cli, site, app):
    """An app is created, installed, listed, subscribed, unsubscribed and uninstalled."""
    assert app.keys() == {"app_id", "app_secret", "public_key_pem", "kid"}
    assert app["public_key_pem"].startswith("-----BEGIN PUBLIC KEY-----")
    instance = cli.json("app", "install", app["app_id"], site)
    assert instance.keys() == {"instance_id"}
    [listed] = cli.json("app", "list")
    assert [entry["instance_id"] for entry in listed["installations"]] == [instance["instance_id"]]
    assert instance["instance_id"] in cli.words("app", "list")

    url = "https://receiver.example/hook"
    subscription = cli.json("subscription", "create", app["app_id"], "--url", url)
    assert subscription.keys() == {"subscription_id"}
    [row] = cli.json("subscription", "list")
    assert (row["subscription_id"], row["url"]) == (subscription["subscription_id"], url)
    assert row["event_type"] == "wix.ecom.v1.orders_settings_updated"
    assert url in cli.words("subscription", "list")

    cli.words("subscription", "delete", subscription["subscription_id"])
    assert cli.json("subscription", "list") == []
    ended = cli.json("app", "uninstall", instance["instance_id"])
    assert ended.keys() == {"instance_id", "uninstalled_at"}
    assert cli.json("app", "list")[0]["installations"] == []


def test_a_key_is_shown_once_and_revoked_by_its_prefix(cli, site):
    """``key create`` answers the key; the list knows only its prefix."""
    user = str(uuid4())
    key = cli.json("key", "create", "--site", site, "--scope", MANAGE, "--user", user)
    assert key.keys() == {"api_key", "wix_user_id"}
    assert key["wix_user_id"] == user
    [listed] = [row for row in cli.json("key", "list") if row["wix_user_id"] == user]
    assert key["api_key"].startswith(listed["prefix"])
    assert key["api_key"] not in cli.words("key", "list")
    assert (listed["scopes"], listed["revoked_at"]) == ([MANAGE], None)
    said = cli.words("key", "revoke", key["api_key"])
    assert listed["prefix"] in said
    assert key["api_key"] not in said
    [revoked] = [row for row in cli.json("key", "list") if row["wix_user_id"] == user]
    assert revoked["revoked_at"]


def test_settings_are_read_and_changed(cli):
    """An update sets values and nested values, null resets, and the history tells it all."""
    site = cli.json("site", "create")["site_id"]
    before = cli.json("settings", "get", "--site", site)["ordersSettings"]
    assert before.keys() == {
        "inventoryUpdateTrigger",
        "createInvoice",
        "createdDate",
        "updatedDate",
    }
    user = str(uuid4())
    sets = ("--set", "createInvoice=true", "--set", "emailNotifications.orderShipped=false")
    after = cli.json("settings", "update", "--site", site, *sets, "--reason", "Neues Gesetz")
    assert after["ordersSettings"]["createInvoice"] is True
    assert after["ordersSettings"]["emailNotifications"]["orderShipped"] is False
    words = cli.words(
        "settings", "update", "--site", site, "--set", "createInvoice=null", "--by-user", user
    )
    assert "createInvoice: true → false" in words

    newest, middle, oldest = cli.json("history", site)
    assert (newest["version"], middle["version"], oldest["version"]) == (3, 2, 1)
    assert newest["actor"] == {"type": "WIX_USER", "id": user}
    assert newest["changes"] == {"createInvoice": {"from": True, "to": False}}
    assert newest.keys() == {"version", "position", "timestamp", "actor", "changes"}
    assert middle["reason"] == "Neues Gesetz"
    assert middle["actor"]["type"] == "WIX_USER"
    assert UUID(middle["actor"]["id"])
    assert oldest["actor"] is None
    assert newest["timestamp"] > middle["timestamp"] > oldest["timestamp"]


def test_without_a_user_the_operator_acts(cli, site):
    """Two updates without ``--by-user`` have the same WIX_USER, made once."""
    for value in ("ON_ORDER_PAID", "ON_ORDER_PLACED"):
        cli.words("settings", "update", "--site", site, "--set", f"inventoryUpdateTrigger={value}")
    newest, previous, *_ = cli.json("history", site)
    assert newest["actor"] == previous["actor"]


def test_the_history_reads_well(cli, site):
    """People read from → to, the local time with its zone, and how long ago it was."""
    cli.words("settings", "update", "--site", site, "--set", "createInvoice=true")
    told = cli.having(TZ="Europe/Vienna").words("history", site)
    assert "createInvoice: false → true" in told
    assert "CET" in told or "CEST" in told
    assert "ago" in told or "just now" in told
    shown = cli.words("settings", "get", "--site", site)
    assert "emailNotifications.orderPlaced" in shown


def test_a_sound_log_is_found_sound(cli, site):
    """``check`` counts what it refolded."""
    report = cli.json("check")
    assert report["ok"] is True
    assert report["fault"] is None
    assert report["events"] >= report["sites"] >= 1
    assert "whole" in cli.words("check")


def test_partitions_are_added_and_never_taken_away(tmp_path):
    """``migrate --partitions`` raises their number; new sites are spread over them."""
    cli = CommandLine(tmp_path / "data")
    first = cli.json("migrate")
    assert first["applied"]
    assert first["partitions"] == 1
    assert cli.json("migrate", "--partitions", 2) == {"applied": [], "partitions": 2}
    told = cli.words("migrate", "--partitions", 3)
    assert told == "No migration to apply.\nThere are 3 partitions.\n"
    assert cli.json("migrate") == {"applied": [], "partitions": 3}
    site = str(UUID(int=5))
    assert cli.json("site", "create", "--id", site) == {"site_id": site, "partition": 2}
    assert "3 already" in cli.refusal("migrate", "--partitions", 2)


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("site",),
        ("app", "create"),
        ("settings", "update"),
        ("history",),
        ("serve",),
        ("quickstart",),
    ],
)
def test_every_help_has_an_example(cli, command):
    """``--help`` explains without a database, and shows a call that can be typed."""
    done = CommandLine(cli.data_dir / "nowhere").run(*command, "--help")
    assert done.returncode == 0
    assert "settings-ledger" in done.stdout or command == ("site",)
    assert not (cli.data_dir / "nowhere").exists()


SERVERS = {"aiohttp", "fastapi", "jwt", "starlette", "structlog", "uvicorn"}


@pytest.mark.parametrize(
    ("program", "spared"),
    [
        ("import ledger.cli", SERVERS | {"psycopg", "pydantic", "cryptography", "rich"}),
        ("import ledger.assembly", SERVERS | {"rich", "typer"}),
    ],
)
def test_little_is_imported(program, spared):
    """For ``--help`` nothing heavy is imported, and what serves only where something serves;
    ``tests/bench`` measures what a start takes."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not spared & {*loaded}


def test_one_document_is_all_that_json_prints(cli, site):
    """Output with ``--json`` is one document to its last byte, also where it is long."""
    printed = cli.words("settings", "get", "--site", site, "--json")
    decoder = json.JSONDecoder()
    _, end = decoder.raw_decode(printed)
    assert printed[end:] == "\n"
