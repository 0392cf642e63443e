"""An auditor's and an operator's commands: what they print, record, refuse and leave alone."""

from __future__ import annotations

import csv
import json
from uuid import uuid4

import pytest
from own_process import OwnProcess

from ledger import Identity, Ledger
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS

SECRET_KEY = "correct-horse-battery-staple-0123456789"
ANNA = Identity.wix_user("0d3f6a2e-8dfe-41ee-b9d1-0242ac120002")
BEN = Identity.wix_user("7b1d43f6-52c8-4f0e-9a3e-5a3c0f1b2d4e")
NOBODY = "48b463bd-7743-46d7-91b0-aaf6a0342fa8"
SHIPPED = "emailNotifications.orderShipped"
TRIGGER = "inventoryUpdateTrigger"


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_cli_history", template.name) as database:
        settings = {"database_url": database.server_url, "secret_key": SECRET_KEY}
        with Ledger.open(**settings) as ledger:
            yield ledger


@pytest.fixture
def cli(ledger, monkeypatch, capsys):
    return OwnProcess(ledger.database_url, SECRET_KEY, monkeypatch, capsys)


@pytest.fixture
def site(ledger):
    """A site of four versions: Anna turns invoices on, Ben for a member another two switches."""
    site = ledger.create_site()
    site.update({"createInvoice": True}, reason="New law", by=ANNA)
    member = Identity.member("c0a8012e-0000-4000-8000-000000000001")
    why = Provenance(BEN, Via("cli", asserted=True), on_behalf_of=member, reason="As asked")
    patch = {"emailNotifications": {"orderShipped": False}}
    ledger.update(site.site_id, ORDERS_SETTINGS, patch, why)
    site.update({TRIGGER: "ON_ORDER_PAID"}, by=ANNA)
    return site


def test_history_has_the_shape_that_is_promised(cli, site):
    """``history --json`` lists changes newest first; what there is not is absent."""
    told = cli.json("history", site.site_id)
    assert [change["version"] for change in told] == [4, 3, 2, 1]
    newest, third, second, created = told
    assert newest.keys() == {"version", "position", "timestamp", "actor", "changes"}
    assert third.keys() == newest.keys() | {"on_behalf_of", "reason"}
    assert third["actor"] == {"type": "WIX_USER", "id": BEN.id}
    assert third["on_behalf_of"]["type"] == "MEMBER"
    assert third["changes"] == {SHIPPED: {"from": True, "to": False}}
    assert second["reason"] == "New law"
    assert created["actor"] is None
    assert created["changes"]["createInvoice"] == {"to": False}
    assert newest["timestamp"].endswith("Z")


def test_history_is_narrowed_by_each_filter(cli, site):
    """Time, field, actor, version range, order and limit each leave what they name."""

    def versions(*options: object) -> list[int]:
        return [change["version"] for change in cli.json("history", site.site_id, *options)]

    at = {change["version"]: change["timestamp"] for change in cli.json("history", site.site_id)}
    assert versions("--since", at[3]) == [4, 3]
    assert versions("--until", at[2]) == [2, 1]
    assert versions("--since", at[2], "--until", at[3]) == [3, 2]
    assert versions("--since", "1 hour ago") == [4, 3, 2, 1]
    assert versions("--field", "createInvoice") == [2, 1]
    assert versions("--field", "emailNotifications") == [3, 1]
    assert versions("--by", ANNA.id) == [4, 2]
    assert versions("--by", "c0a8012e-0000-4000-8000-000000000001") == [3]
    assert versions("--from-version", 2, "--to-version", 3) == [3, 2]
    assert versions("--order", "oldest") == [1, 2, 3, 4]
    assert versions("--limit", 1) == [4]


def test_history_tells_people_who_for_whom_and_why(cli, site):
    """Words name the change, the actor, the principal, the reason and where to go on."""
    told = cli.words("history", site.site_id, "--limit", 2)
    assert f"WIX_USER {BEN.id} on behalf of MEMBER" in told
    assert "because: As asked" in told
    assert f"{SHIPPED}: true → false" in told
    assert "ago" in told or "just now" in told
    assert "--to-version 2" in told
    oldest = cli.words("history", site.site_id, "--limit", 2, "--order", "oldest")
    assert "--from-version 3" in oldest
    assert cli.words("history", site.site_id, "--by", ANNA.id, "--field", SHIPPED) == (
        "No change matches.\n"
    )


def test_show_has_the_shape_that_is_promised(cli, site):
    """``show`` answers the settings of now, a version or a time as the API replies them."""
    now = cli.json("show", site.site_id)
    assert now.keys() == {"ordersSettings", "version", "position", "timestamp"}
    assert now["version"] == 4
    assert (
        now["ordersSettings"]
        == cli.json("settings", "get", "--site", site.site_id)["ordersSettings"]
    )
    second = cli.json("show", site.site_id, "--version", 2)
    assert (second["version"], second["ordersSettings"]["createInvoice"]) == (2, True)
    assert "emailNotifications" not in second["ordersSettings"]
    assert cli.json("show", site.site_id, "--at", second["timestamp"]) == second
    assert cli.json("show", site.site_id, "--at", second["ordersSettings"]["updatedDate"]) == second
    assert cli.json("show", site.site_id, "--at", "v2") == second
    assert "version 2, position" in cli.words("show", site.site_id, "--version", 2)


def test_diff_compares_any_two(cli, ledger, site):
    """``diff`` takes versions, times and other sites; without a right side it means now."""
    one = site.site_id
    expected = {TRIGGER: {"from": "ON_ORDER_PLACED", "to": "ON_ORDER_PAID"}}
    assert cli.json("diff", f"{one}@v3", f"{one}@v4") == {"changes": expected}
    assert cli.json("diff", f"{one}@v3") == {"changes": expected}
    assert cli.json("diff", one, one) == {"changes": {}}
    other = ledger.create_site().site_id
    assert cli.json("diff", f"{one}@v2", other)["changes"] == {
        "createInvoice": {"from": True, "to": False}
    }
    assert f"{TRIGGER}: ON_ORDER_PLACED → ON_ORDER_PAID" in cli.words("diff", f"{one}@v3", one)
    assert "no value differs" in cli.words("diff", one, one)


def test_blame_names_who_set_what(cli, site):
    """``blame`` gives every field its value and the change that it is owed to."""
    told = cli.json("blame", site.site_id)
    assert set(told) == set(ORDERS_SETTINGS.field_paths())
    assert told["createInvoice"].keys() == {"value", "version", "timestamp", "actor", "reason"}
    assert told["createInvoice"]["actor"] == {"type": "WIX_USER", "id": ANNA.id}
    assert told["createInvoice"]["reason"] == "New law"
    assert (told[SHIPPED]["value"], told[SHIPPED]["version"]) == (False, 3)
    assert told["emailNotifications.orderPlaced"]["actor"] is None
    assert cli.json("blame", site.site_id, "--at", "v1")["createInvoice"]["value"] is False
    words = cli.words("blame", site.site_id)
    assert "createInvoice: true  v2" in words
    assert "because: New law" in words


def test_restore_shows_then_records(cli, site):
    """A dry run records nothing; then one new change brings the old settings back."""
    planned = cli.json("restore", site.site_id, "--version", 1, "--dry-run")
    assert planned["version"] is None
    assert set(planned["changes"]) == {"createInvoice", SHIPPED, TRIGGER}
    assert len(cli.json("history", site.site_id)) == 4
    assert "On top of version 4" in cli.words("restore", site.site_id, "--version", 1, "--dry-run")
    done = cli.json("restore", site.site_id, "--version", 1, "--reason", "Start over")
    assert done == planned | {"version": 5}
    newest = cli.json("history", site.site_id)[0]
    assert (newest["origin"], newest["reason"]) == ("restore:v1", "Start over")
    assert cli.json("diff", f"{site.site_id}@v1") == {"changes": {}}


def test_restore_takes_a_time_and_somebody_who_acts(cli, site):
    """``--at`` names the moment, ``--by-user`` who is said to have asked."""
    at = cli.json("show", site.site_id, "--version", 2)["timestamp"]
    why = ("--reason", "Back to May", "--by-user", BEN.id)
    assert "Version 5" in cli.words("restore", site.site_id, "--at", at, *why)
    newest = cli.json("history", site.site_id)[0]
    assert newest["origin"] == "restore:v2"
    assert newest["actor"] == {"type": "WIX_USER", "id": BEN.id}
    assert "as claimed" in cli.words("history", site.site_id, "--limit", 1)


def test_revert_undoes_one_change(cli, site):
    """Only what the change did is undone; a dry run records nothing."""
    planned = cli.json("revert", site.site_id, 2, "--dry-run")
    assert planned == {"version": None, "changes": {"createInvoice": {"from": True, "to": False}}}
    assert len(cli.json("history", site.site_id)) == 4
    done = cli.json("revert", site.site_id, "v2", "--reason", "Not agreed")
    assert done == planned | {"version": 5}
    assert cli.json("history", site.site_id)[0]["origin"] == "revert:v2"
    assert site.settings()[TRIGGER] == "ON_ORDER_PAID"


def test_revert_reports_what_was_changed_since(cli, site):
    """A field changed since is named with its value and version and stays as it is."""
    site.update({"createInvoice": False, TRIGGER: "ON_ORDER_PLACED"})
    site.update({TRIGGER: "ON_ORDER_PAID"})
    done = cli.json("revert", site.site_id, 5, "--reason", "Half of it")
    assert done["changes"] == {"createInvoice": {"from": False, "to": True}}
    assert done["conflicts"] == {
        TRIGGER: {"expected": "ON_ORDER_PLACED", "found": "ON_ORDER_PAID", "version": 6}
    }
    assert site.settings()[TRIGGER] == "ON_ORDER_PAID"
    site.update({"createInvoice": False, TRIGGER: "ON_ORDER_PLACED"})
    site.update({"createInvoice": True})
    words = cli.words("revert", site.site_id, 8, "--dry-run")
    assert f"{TRIGGER}: ON_ORDER_PLACED → ON_ORDER_PAID" in words
    assert "Changed since, and left as it is" in words
    assert "createInvoice: true  by v9" in words


def test_a_revert_that_can_do_nothing_records_nothing(cli, site):
    """Where every field was changed since, it says so, and exits 1; whatever the values are."""
    site.update({"createInvoice": False})
    site.update({"createInvoice": True})
    status, out, err = cli.run("revert", site.site_id, 2, "--reason", "x", "--json")
    assert status == 1
    assert json.loads(out)["version"] is None
    assert json.loads(out)["conflicts"] == {
        "createInvoice": {"expected": True, "found": True, "version": 6}
    }
    assert "changed since" in err
    assert len(cli.json("history", site.site_id)) == 6
    assert cli.json("revert", site.site_id, 2, "--dry-run")["version"] is None


def test_search_finds_changes_of_all_sites(cli, ledger):
    """``search`` pages through what matches, newest first, with site and kind."""
    word = uuid4().hex
    sites = [ledger.create_site() for _ in range(3)]
    for site in sites:
        site.update({"createInvoice": True}, reason=f"Because of {word}", by=ANNA)
    first = cli.json("search", "--text", word.upper(), "--limit", 2)
    assert [change["site_id"] for change in first["changes"]] == [
        str(sites[2].site_id),
        str(sites[1].site_id),
    ]
    assert first["changes"][0]["kind"] == ORDERS_SETTINGS.fqdn
    rest = cli.json("search", "--text", word.upper(), "--limit", 2, "--cursor", first["next"])
    assert [change["site_id"] for change in rest["changes"]] == [str(sites[0].site_id)]
    assert rest["next"] is None
    words = cli.words("search", "--text", word, "--limit", 2)
    assert str(sites[2].site_id) in words
    assert "--cursor" in words


def test_search_is_narrowed_by_each_option(cli, ledger, site):
    """Actor, field, value, origin, site, kind and time each leave what they name."""
    site.history.restore(1, reason="Start over", by=BEN)
    here = ("--site", site.site_id)

    def versions(*options: object) -> list[int]:
        found = cli.json("search", *here, *options)["changes"]
        return [change["version"] for change in found]

    assert versions("--by", BEN.id) == [5, 3]
    assert versions("--field", "createInvoice") == [5, 2, 1]
    assert versions("--field", "createInvoice", "--value", "true") == [2]
    assert versions("--field", TRIGGER, "--value", "ON_ORDER_PAID") == [4]
    assert versions("--origin", "restore") == versions("--origin", "restore:v1") == [5]
    assert versions("--kind", ORDERS_SETTINGS.fqdn, "--limit", 1) == [5]
    third = cli.json("show", site.site_id, "--version", 3)["timestamp"]
    assert versions("--until", third) == [3, 2, 1]
    assert versions("--since", third) == [5, 4, 3]
    assert cli.words("search", *here, "--text", "no such word") == "No change matches.\n"


def test_replay_tells_everything_in_the_order_of_the_log(cli, site):
    """``replay --json`` is one document with every change, from a position on."""
    told = cli.json("replay", "--site", site.site_id)
    assert [change["version"] for change in told] == [1, 2, 3, 4]
    assert {"partition", "site_id", "kind", "position"} <= told[0].keys()
    position = told[2]["position"]
    later = cli.json("replay", "--site", site.site_id, "--from-position", position)
    assert later == told[2:]
    same = cli.json("replay", "--site", site.site_id, "--from-position", f"0:{position}")
    assert same == later
    assert cli.json("replay", "--site", site.site_id, "--until", told[1]["timestamp"]) == told[:2]
    assert cli.json("replay", "--from-position", 10**9) == []
    assert "createInvoice: false → true" in cli.words("replay", "--site", site.site_id)


def test_export_writes_a_file_and_says_where_to_go_on(cli, ledger, site, tmp_path):
    """What comes later can be had alone, from the position that the export named."""
    out = tmp_path / "changes.ndjson"
    done = cli.json("export", "--out", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert done["events"] == len(lines) == len(list(ledger.replay()))
    assert (done["format"], done["out"]) == ("ndjson", str(out))
    site.update({"createInvoice": False})
    on = ("--from-position", done["next_position"]["0"])
    assert cli.json("export", "--out", out, *on)["events"] == 1
    assert json.loads(out.read_text())["version"] == 5
    assert [entry.name for entry in tmp_path.iterdir()] == [out.name]
    words = cli.words("export", "--out", out, "--format", "csv", "--site", site.site_id)
    assert "Wrote 5 changes" in words
    with out.open(newline="") as text:
        assert [row["version"] for row in csv.DictReader(text)] == ["1", "2", "3", "4", "5"]


def test_export_writes_each_format(cli, site, tmp_path):
    """Every format that ``--format`` names writes something; Parquet needs its extra."""
    pytest.importorskip("pyarrow")
    for name in ("ndjson", "csv", "parquet", "ocsf"):
        out = tmp_path / name
        done = cli.json("export", "--format", name, "--out", out, "--site", site.site_id)
        assert (done["events"], out.stat().st_size > 0) == (4, True)


def test_projections_are_shown_and_checked(cli, site):
    """``status`` counts the lag, ``check`` compares with the log."""
    cli.json("history", site.site_id)
    status = cli.json("projections", "status")
    assert [row["name"] for row in status] == ["current_settings", "settings_history"]
    assert {"partition", "position", "head", "lag_events", "lag_seconds", "followed"} < set(
        status[1]
    )
    assert (status[1]["lag_events"], status[1]["followed"]) == (0, False)
    assert "settings_history" in cli.words("projections", "status")
    checked = cli.json("projections", "check")
    assert checked["ok"] is True
    assert all(row["fault"] is None for row in checked["projections"])
    assert "as the log" in cli.words("projections", "check")


def test_a_projection_that_differs_is_named(cli, ledger, site, monkeypatch):
    """``projections check`` exits 1 with the first difference."""
    from projections.check import Checked

    fault = Checked("settings_history", 0, 7, "partition 0, position 7: there is no row")
    monkeypatch.setattr("projections.check.check", lambda *_: [fault])
    status, out, err = cli.run("projections", "check", "--json")
    assert (status, json.loads(out)["ok"]) == (1, False)
    assert err == (
        "settings_history is not what the log gives: partition 0, position 7: there is no row\n"
    )


def test_what_a_terminal_would_obey_is_shown_as_its_escape(cli, ledger, site, monkeypatch):
    """A stored text cannot repaint the screen of whoever reads the history."""
    from ledger.cli.timeline import visible

    assert visible("a\x1b[31mb\u202ec\nü") == "a\\x1b[31mb\\u202ec\\nü"


def test_a_kind_that_nobody_changed_is_shown_at_its_defaults(cli, site):
    """``show``, ``diff`` and ``blame`` agree with what a GET answers: the defaults at version 0."""
    of_kind = ("--kind", CHECKOUT_SETTINGS.fqdn)
    shown = cli.json("show", site.site_id, *of_kind)
    assert (shown["version"], shown["position"]) == (0, None)
    assert "version 0, the defaults" in cli.words("show", site.site_id, *of_kind)
    assert cli.json("history", site.site_id, *of_kind) == []
    assert cli.json("diff", f"{site.site_id}@v0", site.site_id, *of_kind) == {"changes": {}}
    owed = cli.json("blame", site.site_id, *of_kind)
    assert {(one["version"], one["actor"]) for one in owed.values()} == {(0, None)}
    assert "a default" in cli.words("blame", site.site_id, *of_kind)
    planned = cli.json("restore", site.site_id, "--version", "0", "--dry-run")
    assert planned["changes"].keys() == {"createInvoice", SHIPPED, TRIGGER}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("history", NOBODY), f"There is no site {NOBODY}."),
        (("history", "SITE", "--kind", "no.kind"), "There is no settings kind no.kind."),
        (("history", "SITE", "--since", "2999-01-01T00:00:00Z"), "--since: "),
        (("history", "SITE", "--since", "2024-07-04T15:10:46"), "--since: "),
        (("history", "SITE", "--until", "yesterday"), "--until: 'yesterday' is not a time"),
        (("history", "SITE", "--since", "1 hour ago", "--until", "2 hours ago"), "--since: must"),
        (("history", "SITE", "--field", "crateInvoice"), "--field: crateInvoice is not a field"),
        (("history", "SITE", "--by", NOBODY), f"--by: nobody with the id {NOBODY}"),
        (("history", "SITE", "--limit", "0"), "--limit: expected 1 to"),
        (("history", "SITE", "--from-version", "3", "--to-version", "2"), "--from-version: must"),
        (("history", "SITE", "--to-version", "-1"), "--to-version: versions are numbered"),
        (("show", "SITE", "--at", "2001-01-01T00:00:00Z"), "--at: is before the site"),
        (("show", "SITE", "--at", "soon"), "--at: 'soon' is not a time"),
        (("show", "SITE", "--version", "99"), "There is no version 99."),
        (("show", "SITE", "--version", "-1"), "--version: versions are numbered"),
        (("show", "SITE", "--at", "v99"), "There is no version 99."),
        (("diff", "nowhere@v1"), "LEFT: 'nowhere' is no site's id"),
        (("diff", "SITE@v1", "SITE@whenever"), "RIGHT: 'whenever' is not a time"),
        (("diff", "SITE@v99"), "There is no version 99."),
        (("diff", "SITE", NOBODY), f"There is no site {NOBODY}."),
        (("blame", "SITE", "--at", "v-1"), "--at: 'v-1' is not a time"),
        (("revert", "SITE", "0", "--dry-run"), "VERSION: versions are numbered from 1"),
        (
            ("restore", "SITE", "--version", "99", "--dry-run"),
            "There is no version 99.",
        ),
        (("restore", "SITE", "--at", "later", "--dry-run"), "--at: 'later' is not a time"),
        (("restore", "SITE", "--version", "1", "--reason", " "), "--reason: expected 1 to"),
        (("revert", "SITE", "99", "--dry-run"), "There is no version 99."),
        (("revert", "SITE", "1", "--dry-run"), "VERSION: 1 is the creation"),
        (("search", "--site", NOBODY), f"There is no site {NOBODY}."),
        (("search", "--kind", "no.kind"), "There is no settings kind no.kind."),
        (("search", "--by", NOBODY), "--by: nobody"),
        (("search", "--field", "nothing"), "--field: nothing is not a field"),
        (("search", "--cursor", "nonsense"), "--cursor: is not one"),
        (("search", "--limit", "5000"), "--limit: expected"),
        (("search", "--text", ""), "--text: must not be empty"),
        (("search", "--origin", " "), "--origin: must not be empty"),
        (("replay", "--from-position", "x"), "--from-position: 'x' is not of the form"),
        (("replay", "--from-position", "7:1"), "--from-position: there is no partition 7"),
        (("replay", "--from-position", "1", "--from-position", "2"), "--from-position: name each"),
        (("replay", "--since", "1 hour ago", "--until", "2 hours ago"), "--since: must"),
        (("export", "--out", "/no/such/place/x"), "--out: cannot write /no/such/place/x"),
        (("projections", "rebuild", "nothing"), "There is no projection nothing."),
        (("projections", "rebuild", "current_settings"), "current_settings changes with the log"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_bad_input_is_one_sentence_that_names_it(cli, site, command, sentence):
    """Each is refused with exit 1, one line on stderr and nothing on stdout."""
    told = cli.refusal(*(part.replace("SITE", str(site.site_id)) for part in command), "--json")
    assert told.startswith(sentence)
    assert "\n" not in told


@pytest.mark.parametrize(
    "command",
    [
        ("show",),
        ("show", "not-a-uuid"),
        ("show", NOBODY, "--version", "three"),
        ("show", NOBODY, "--version", "1", "--at", "v1"),
        ("history", NOBODY, "--order", "random"),
        ("restore", NOBODY, "--reason", "x"),
        ("restore", NOBODY, "--version", "1", "--at", "v1", "--reason", "x"),
        ("restore", NOBODY, "--version", "1"),
        ("revert", NOBODY, "2"),
        ("revert", NOBODY, "two", "--reason", "x"),
        ("search", "--site", "me"),
        ("export",),
        ("export", "--format", "xml", "--out", "x"),
        ("export", "--out", "-", "--json"),
        ("projections", "rebuild"),
    ],
    ids=" ".join,
)
def test_misuse_exits_2(cli, command):
    """What the command line's grammar forbids is told with the usage, and exits 2."""
    assert "Usage:" in cli.refusal(*command, status=2)


@pytest.mark.parametrize(
    "command",
    [
        *("history", "show", "diff", "blame", "restore", "revert", "search", "replay", "export"),
        *("project", "projections status", "projections rebuild", "projections check"),
    ],
)
def test_help_shows_a_call_that_can_be_typed(cli, command):
    """Each command's ``--help`` explains it and gives an example."""
    told = cli.words(*command.split(), "--help")
    assert f"$ settings-ledger {command}" in told
