"""The commands for subscriptions: where they lead, and how they prove who calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from own_process import OwnProcess
from publishing import SCOPES

SECRET_KEY = "the key of the tests of subscriptions 0123456789"


@pytest.fixture
def cli(
    fresh_database: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> OwnProcess:
    monkeypatch.setenv("LEDGER_ALLOWED_NETWORKS", "127.0.0.0/8")
    return OwnProcess(fresh_database().server_url, SECRET_KEY, monkeypatch, capsys)


@pytest.fixture
def app(cli: OwnProcess) -> str:
    app_id: str = cli.json("app", "create", "--name", "A", "--scope", SCOPES[0])["app_id"]
    return app_id


def test_a_client_certificate_is_given_shown_and_taken_away(
    cli: OwnProcess, app: str, tmp_path: Path
) -> None:
    """Subject, fingerprint and end are shown, the key never; each mistake is named by its option."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("shop").files(tmp_path, "shop")
    other, _ = authority.issue("other").files(tmp_path, "other")
    ours = ("--client-certificate", certificate, "--client-key", key)
    made = cli.json("subscription", "create", app, "--url", "https://h.example/", *ours)
    wanted = made["subscription_id"]
    shown = cli.json("subscription", "show", wanted)
    assert shown["certificate_subject"] == "CN=shop"
    assert len(shown["certificate_fingerprint"]) == 64
    assert shown["certificate_expires_at"].endswith("Z")
    assert "PRIVATE KEY" not in str(shown)
    assert "CN=shop" in cli.words("subscription", "show", wanted)
    for arguments, problem in (
        (("--client-certificate", certificate), "--client-key: is needed with"),
        (("--client-key", key), "--client-certificate: is needed with"),
        (
            ("--client-certificate", other, "--client-key", key),
            "--client-key: expected the private",
        ),
        (
            ("--client-certificate", tmp_path, "--client-key", key),
            "--client-certificate: cannot read",
        ),
        (("--url", "http://127.0.0.1:1/"), "url: expected https:// or tls://"),
    ):
        assert problem in cli.refusal("subscription", "update", wanted, *arguments)
    assert cli.json("subscription", "show", wanted) == shown
    moved = cli.json(
        "subscription", "update", wanted, "--no-client-certificate", "--url", "http://127.0.0.1:1/"
    )
    assert moved["url"] == "http://127.0.0.1:1/"
    assert moved["certificate_fingerprint"] is None
    assert cli.json("subscription", "show", wanted)["certificate_subject"] is None


def test_a_subscription_leads_to_a_stream(cli: OwnProcess, app: str) -> None:
    """A URL of a NATS server is as good as any other; its path must begin a subject."""
    made = cli.json("subscription", "create", app, "--url", "nats://127.0.0.1:4222/acme.shop")
    shown = cli.json("subscription", "show", made["subscription_id"])
    assert shown["url"] == "nats://127.0.0.1:4222/acme.shop"
    for url, problem in (
        ("nats://127.0.0.1/a/b", "expected a path of letters, digits, - and _"),
        ("nats://10.0.0.1/shop", "10.0.0.1 is not a public address"),
        ("kafka://127.0.0.1/shop", "expected http(s)://host[:port][/path], or nats:// or tls://"),
    ):
        assert problem in cli.refusal("subscription", "create", app, "--url", url)


def test_an_update_must_say_what_to_change(cli: OwnProcess, app: str) -> None:
    """Nothing at all and two things at once are misuse; an unknown subscription is told."""
    assert "give --url" in cli.refusal("subscription", "update", app, status=2)
    refusal = cli.refusal("subscription", "update", app, "--url", "https://h.example/")
    assert refusal.endswith(f"There is no subscription {app}.")
