"""``app rotate-secret`` and ``app rotate-key``, as an operator uses them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from command_line import CommandLine

from ledger.embedded import EmbeddedServer

READ = "SCOPE.DC-STORES.READ-ORDERS"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line on a data directory whose server runs as long as the module's tests."""
    data_dir = tmp_path_factory.mktemp("rotation") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(data_dir)


@pytest.fixture(scope="module")
def app(cli):
    return cli.json("app", "create", "--name", "Invoices", "--scope", READ)


def secrets(cli, app):
    """The app's secrets as ``app list`` has them."""
    [listed] = [row for row in cli.json("app", "list") if row["app_id"] == app["app_id"]]
    return listed["secrets"]


def test_a_secret_is_rotated_with_an_overlap_and_without(cli, app):
    """The new secret is shown once; the list knows prefixes, and until when they hold."""
    [first] = secrets(cli, app)
    assert app["app_secret"].startswith(first["prefix"] + "_")
    rotated = cli.json("app", "rotate-secret", app["app_id"])
    assert rotated.keys() == {"app_id", "app_secret", "prefix"}
    assert rotated["app_secret"].startswith(rotated["prefix"] + "_")
    old, new = secrets(cli, app)
    assert (old["prefix"], new["prefix"]) == (first["prefix"], rotated["prefix"])
    assert old["expires_at"] > old["created_at"]
    assert (old["revoked_at"], new["expires_at"]) == (None, None)
    words = cli.words("app", "rotate-secret", app["app_id"], "--overlap", "0")
    assert "cannot be shown again" in words
    old, middle, new = secrets(cli, app)
    assert old["revoked_at"]
    assert middle["revoked_at"]
    assert new["revoked_at"] is None
    listed = cli.words("app", "list")
    assert f"{old['prefix']} (revoked)" in listed
    assert rotated["app_secret"] not in listed


def test_a_key_pair_is_rotated(cli, app):
    """The new public key is shown, to give to receivers."""
    rotated = cli.json("app", "rotate-key", app["app_id"])
    assert rotated.keys() == {"app_id", "public_key_pem", "kid"}
    assert rotated["kid"] != app["kid"]
    assert rotated["public_key_pem"].startswith("-----BEGIN PUBLIC KEY-----")
    again = cli.words("app", "rotate-key", app["app_id"], "--overlap", "60")
    assert "-----BEGIN PUBLIC KEY-----" in again


@pytest.mark.parametrize("command", ["rotate-secret", "rotate-key"])
def test_an_unknown_app_is_told_in_a_sentence(cli, command):
    """There is nothing to rotate."""
    app_id = str(uuid4())
    assert cli.refusal("app", command, app_id) == f"There is no app {app_id}."
