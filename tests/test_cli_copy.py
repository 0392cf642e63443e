"""`settings copy` and `kinds` on the command line."""

from __future__ import annotations

from uuid import uuid4

import pytest
from command_line import CommandLine
from test_kinds import LOYALTY

from ledger.embedded import EmbeddedServer

READ = "SCOPE.DC-STORES.READ-ORDERS"
CHECKOUT = "wix.ecom.v1.checkout_settings"
TRIGGER = "inventoryUpdateTrigger"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line on a data directory whose server runs as long as the module's tests."""
    data_dir = tmp_path_factory.mktemp("copy") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(data_dir)


@pytest.fixture(scope="module")
def source(cli):
    """A site whose stock is updated only once an order is paid."""
    site = new_site(cli)
    cli.words("settings", "update", "--site", site, "--set", f"{TRIGGER}=ON_ORDER_PAID")
    return site


def new_site(cli):
    return cli.json("site", "create")["site_id"]


def test_a_copy_goes_to_all_sites_of_an_app(cli, source):
    """Dry run shows the plan and records nothing; then each site's history names one origin."""
    app = cli.json("app", "create", "--name", "Stock", "--scope", READ)["app_id"]
    sites = [new_site(cli), new_site(cli)]
    for site in (*sites, source):
        cli.words("app", "install", app, site)
    command = ("settings", "copy", "--from", source, "--to-all-sites-of", app, "--field", TRIGGER)

    plan = cli.json(*command, "--dry-run")
    change = {TRIGGER: {"from": "ON_ORDER_PLACED", "to": "ON_ORDER_PAID"}}
    assert plan == {
        "kind": "wix.ecom.v1.orders_settings",
        "from": source,
        "from_version": 2,
        "patch": {TRIGGER: "ON_ORDER_PAID"},
        "origin": None,
        "dry_run": True,
        "sites": [{"site_id": site, "changes": change} for site in sites],
    }
    shown = cli.words(*command, "--dry-run")
    assert all(site in shown for site in sites)
    assert f"{TRIGGER}: ON_ORDER_PLACED → ON_ORDER_PAID" in shown
    assert all(len(cli.json("history", site)) == 1 for site in sites)

    done = cli.json(*command, "--reason", "Stock follows payment")
    assert [site["result"] for site in done["sites"]] == ["copied", "copied"]
    for site in sites:
        newest = cli.json("history", site)[0]
        assert newest["origin"] == done["origin"]
        assert newest["reason"] == "Stock follows payment"
    assert "had the same already" in cli.words(*command)


def test_a_failing_site_stops_no_other(cli, source):
    """The others are changed; the failed one is listed on stderr, and the status is 1."""
    unknown, site = str(uuid4()), new_site(cli)
    targets = ("--to", unknown, "--to", site)
    done = cli.run("settings", "copy", "--from", source, *targets, "--field", TRIGGER)
    assert done.returncode == 1
    assert done.stderr == f"Failed on 1 of 2 sites:\n  {unknown}: There is no site {unknown}.\n"
    assert "copied, version 2" in done.stdout
    assert cli.json("history", site)[0]["version"] == 2


def test_a_copy_may_be_of_another_kind_and_by_a_user(cli):
    """--kind names the settings, --by-user who copies."""
    source, target, user = new_site(cli), new_site(cli), str(uuid4())
    text = "checkoutPolicies.returnPolicy.content"
    cli.words(
        "settings", "update", "--site", source, "--kind", CHECKOUT, "--set", f"{text}=100 days"
    )
    command = ("settings", "copy", "--from", source, "--to", target, "--kind", CHECKOUT)
    cli.words(*command, "--field", "checkoutPolicies.returnPolicy", "--by-user", user)
    newest = cli.json("history", target, "--kind", CHECKOUT)[0]
    assert newest["actor"] == {"type": "WIX_USER", "id": user}
    assert newest["changes"] == {text: {"to": "100 days"}}


def test_a_misspelt_field_is_one_sentence(cli, source):
    """The sentence names the field and what there is instead."""
    said = cli.refusal(
        "settings", "copy", "--from", source, "--to", uuid4(), "--field", "inventory"
    )
    assert said.startswith("field: inventory: there is no inventory; known here are")


@pytest.mark.parametrize("targets", [(), ("--to", uuid4(), "--to-all-sites-of", uuid4())])
def test_the_sites_are_named_one_way(cli, source, targets):
    """Neither or both ways of naming the sites is a misuse, told with status 2."""
    done = cli.run("settings", "copy", "--from", source, *targets, "--field", TRIGGER)
    assert done.returncode == 2
    assert "either by --to or by --to-all-sites-of" in " ".join(done.stderr.split())


def test_kinds_are_listed_with_ones_own(cli, tmp_path):
    """`kinds` lists what the program brings and what LEDGER_KINDS adds, without a database."""
    path = tmp_path / "loyalty.py"
    path.write_text(LOYALTY)
    own = CommandLine(tmp_path / "none").having(LEDGER_KINDS=str(path))
    listed = own.json("kinds")
    assert [kind["fqdn"] for kind in listed] == [
        "wix.ecom.v1.orders_settings",
        CHECKOUT,
        "example.shop.v1.loyalty_settings",
    ]
    assert listed[2]["path"] == "/shop/v1/loyalty-settings"
    assert listed[2]["fields"][0] == "enabled"
    assert "example.shop.v1.loyalty_settings_updated" in own.words("kinds")
    assert not (tmp_path / "none").exists()


def test_ones_own_kind_is_served_and_changed_like_any_other(cli, tmp_path):
    """A kind of LEDGER_KINDS has settings, history and an event; a site from before has defaults."""
    path = tmp_path / "loyalty.py"
    path.write_text(LOYALTY)
    site, fqdn = new_site(cli), "example.shop.v1.loyalty_settings"
    own = cli.having(LEDGER_KINDS=str(path))
    assert own.json("settings", "get", "--site", site, "--kind", fqdn)["loyaltySettings"][
        "tiers"
    ] == {"silver": 100}
    own.words("settings", "update", "--site", site, "--kind", fqdn, "--set", "tiers.gold=500")
    assert [change["version"] for change in own.json("history", site, "--kind", fqdn)] == [2, 1]
    scope = "SCOPE.EXAMPLE.READ-LOYALTY"
    app = own.json("app", "create", "--name", "Points", "--scope", scope)["app_id"]
    hook = ("--url", "https://receiver.example/", "--event", f"{fqdn}_updated")
    assert own.json("subscription", "create", app, *hook)
    assert "There is no settings kind" in cli.refusal(
        "settings", "get", "--site", site, "--kind", fqdn
    )


def test_a_wrong_file_stops_every_command(cli, tmp_path):
    """A file that is not there is one sentence, whichever command needed it."""
    own = cli.having(LEDGER_KINDS=str(tmp_path / "nowhere.py"))
    for command in (("kinds",), ("site", "list")):
        assert own.refusal(*command).startswith("LEDGER_KINDS: ")
