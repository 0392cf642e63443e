"""What goes wrong is said in one sentence on stderr, and never with a traceback."""

from __future__ import annotations

import os
import socket

import pytest
from command_line import CommandLine

from ledger.embedded import EmbeddedServer
from ledger.migrate import migrate

NOBODY = "48b463bd-7743-46d7-91b0-aaf6a0342fa8"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line on a data directory whose server runs as long as the module's tests."""
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(data_dir)


@pytest.fixture(scope="module")
def site(cli):
    """A site."""
    return cli.json("site", "create")["site_id"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("settings", "get", "--site", NOBODY), f"There is no site {NOBODY}."),
        (("settings", "update", "--site", NOBODY, "--set", "a=1"), f"There is no site {NOBODY}."),
        (("history", NOBODY), f"There is no site {NOBODY}."),
        (
            ("settings", "get", "--site", NOBODY, "--kind", "no.kind"),
            "There is no settings kind no.kind.",
        ),
        (("app", "install", NOBODY, NOBODY), f"There is no app {NOBODY}."),
        (("app", "uninstall", NOBODY), f"There is no installed app instance {NOBODY}."),
        (("key", "revoke", "slk_nothing"), "There is no API key slk_nothing."),
        (("subscription", "delete", NOBODY), f"There is no subscription {NOBODY}."),
        (("subscription", "create", NOBODY, "--url", "http://10.0.0.1/"), "url: "),
        (("subscription", "create", NOBODY, "--url", "ftp://example.com/"), "url: "),
        (("app", "create", "--name", "x", "--scope", "EVERYTHING"), "scope: unknown: EVERYTHING"),
        (
            ("key", "create", "--site", NOBODY, "--scope", "SCOPE.DC-STORES.READ-ORDERS"),
            f"There is no site {NOBODY}.",
        ),
    ],
    ids=lambda part: " ".join(part[:2]) if isinstance(part, tuple) else "",
)
def test_what_is_not_there_is_named(cli, command, sentence):
    """The sentence says what is missing or not allowed, also where JSON was asked for."""
    assert cli.refusal(*command, "--json").startswith(sentence)


def test_every_broken_rule_is_told_at_once(cli, site):
    """A patch that breaks two rules is refused with both."""
    sets = ("--set", "createInvoice=1", "--set", "crateInvoice=true")
    told = cli.refusal("settings", "update", "--site", site, *sets)
    assert "ordersSettings.createInvoice: " in told
    assert "ordersSettings.crateInvoice: " in told
    assert len(cli.json("history", site)) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("settings", "get"),
        ("settings", "get", "--site", "not-a-uuid"),
        ("settings", "update", "--site", NOBODY),
        ("settings", "update", "--site", NOBODY, "--set", "createInvoice"),
        ("settings", "update", "--site", NOBODY, "--set", "=true"),
        ("settings", "update", "--site", NOBODY, "--set", "a..b=true"),
        ("settings", "update", "--site", NOBODY, "--set", "a=1", "--set", "a.b=1"),
        ("settings", "update", "--site", NOBODY, "--set", "a=1", "--by-user", "me"),
        ("app", "create", "--name", "x"),
        ("serve", "--port", "70000"),
        ("migrate", "--partitions", "0"),
        ("no-such-command",),
        ("site", "no-such-command"),
        ("site", "list", "--yaml"),
    ],
    ids=" ".join,
)
def test_misuse_exits_2(cli, command):
    """A command that cannot be understood touches nothing and exits 2."""
    done = CommandLine(cli.data_dir / "nowhere").run(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert not (cli.data_dir / "nowhere").exists()


def test_a_port_in_use_is_named(cli):
    """A taken port is a sentence that says how to choose another one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (("serve",), ("quickstart", "--once")):
            told = cli.refusal(*command, "--port", port)
            assert told.startswith(f"Port {port} of 127.0.0.1 is in use")
            assert "LEDGER_PORT" in told


def test_an_unknown_host_is_named(cli):
    """A host that is none of this machine's is a sentence."""
    assert "192.0.2.1" in cli.refusal("serve", "--host", "192.0.2.1")


def test_an_unusable_data_directory_is_named(tmp_path):
    """A file where the directory should be, and a place nobody may write to."""
    (tmp_path / "file").write_text("")
    told = CommandLine(tmp_path / "file").refusal("site", "list")
    assert str(tmp_path / "file") in told
    assert "LEDGER_DATA_DIR" in told
    told = CommandLine("/proc/nowhere").refusal("site", "list")
    assert "LEDGER_DATA_DIR" in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_named(tmp_path):
    """A directory that this user may not write to is a sentence."""
    tmp_path.chmod(0o500)
    assert "LEDGER_DATA_DIR" in CommandLine(tmp_path / "data").refusal("site", "list")


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("postgresql://someone:hunter2@127.0.0.1:1/none", "does not answer"),
        ("postgresql:///none?host=/nowhere", "does not answer"),
        ("no url at all", "cannot be understood"),
    ],
)
def test_an_unreachable_database_is_named(tmp_path, url, part):
    """A database that is not there is a sentence, without the password that was given."""
    cli = CommandLine(tmp_path / "data", {"LEDGER_DATABASE_URL": url})
    for command in (("site", "list"), ("serve", "--port", 0), ("migrate",)):
        told = cli.refusal(*command)
        assert part in told
        assert "hunter2" not in told


def test_a_role_without_privileges_is_told_who_grants_them(tmp_path, empty_database):
    """A role that may not read the ledger's tables is one sentence with the command that helps."""
    migrate(empty_database.owner_url)
    cli = CommandLine(tmp_path / "data", {"LEDGER_DATABASE_URL": empty_database.server_url})
    for command in (("site", "list"), ("serve", "--port", 0), ("check",)):
        told = cli.refusal(*command)
        assert told.startswith("The database role lacks a privilege: ")
        assert "`settings-ledger migrate` grants" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEDGER_PORT", "many"),
        ("LEDGER_ALLOWED_NETWORKS", "10.0.0.0/99"),
        ("LEDGER_SECRET_KEY", "x"),
    ],
)
def test_a_wrong_option_is_named(cli, name, value):
    """An environment variable that cannot be used is named."""
    assert name in cli.having(**{name: value}).refusal("site", "list")


def test_a_reader_that_goes_away_is_no_error(cli):
    """``settings-ledger … | head`` does not complain about the closed pipe."""
    with cli.started("history", "--help") as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
