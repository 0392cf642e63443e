"""The commands for deliveries: one JSON document each, or a sentence."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from command_line import CommandLine

from ledger.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    with EmbeddedServer.open(data_dir):
        yield CommandLine(data_dir, {"LEDGER_ALLOWED_NETWORKS": "127.0.0.0/8"})


@contextmanager
def receiver(status: int) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that answers ``status``: its URL, and the X-Ledger-Test of each POST."""
    marks: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            marks.append(self.headers["X-Ledger-Test"])
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", marks
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def app(cli: CommandLine) -> str:
    app_id: str = cli.json(
        "app", "create", "--name", "A", "--scope", "SCOPE.DC-STORES.READ-ORDERS"
    )["app_id"]
    return app_id


def subscribe(cli: CommandLine, app: str, url: str = "http://127.0.0.1:1/") -> str:
    made: str = cli.json("subscription", "create", app, "--url", url)["subscription_id"]
    return made


def test_a_test_event_is_sent_and_its_answer_told(cli: CommandLine, app: str) -> None:
    """Received: exit 0; anything else: exit 1 and a sentence; both documents are the same."""
    with receiver(200) as (url, marks):
        done = cli.json("subscription", "test", subscribe(cli, app, url))
        assert (done["received"], done["status"], done["problem"]) == (True, 200, None)
        assert marks == ["true"]
    with receiver(503) as (url, _):
        said = cli.refusal("subscription", "test", subscribe(cli, app, url))
        assert said.startswith("Not received: answered 503 instead of 200 (")


def test_a_subscription_is_shown_paused_and_resumed(cli: CommandLine, app: str) -> None:
    """``show`` has the policy, and the reason of a pause."""
    wanted = subscribe(cli, app)
    shown = cli.json("subscription", "show", wanted)
    assert (shown["policy"], shown["paused"]) == ("ordered", None)
    cli.words("subscription", "policy", wanted, "wix", "--timeout", 2, "--delays", "1,2.5")
    cli.words("subscription", "pause", wanted, "--reason", "Moving house")
    shown = cli.json("subscription", "show", wanted)
    assert (shown["policy"], shown["timeout"], shown["delays"]) == ("wix", 2.0, [1.0, 2.5])
    assert shown["paused"] == "Moving house"
    assert "Moving house" in cli.words("subscription", "show", wanted)
    cli.words("subscription", "resume", wanted, "--from-now")
    refusal = cli.refusal("subscription", "resume", wanted)
    assert refusal == f"There is no paused subscription {wanted}."


def test_a_replay_is_begun(cli: CommandLine, app: str) -> None:
    """It says over how many positions it goes."""
    site = cli.json("site", "create")["site_id"]
    wanted = subscribe(cli, app)
    cli.words("settings", "update", "--site", site, "--set", "createInvoice=true")
    begun = cli.json("subscription", "replay", wanted, "--from-position", "0:1")
    assert begun["events"] >= 2
    assert cli.json("subscription", "replay", wanted, "--since", "2099-01-01")["events"] == 0
    refusal = cli.refusal("subscription", "replay", wanted, "--from-position", "9999")
    assert refusal.startswith("position: expected 1 to ")


def test_dead_letters_are_listed_and_unknown_ones_refused(cli: CommandLine) -> None:
    """None at first; a number that names none is told."""
    assert cli.json("deadletters", "list") == []
    for command in ("retry", "drop"):
        assert cli.refusal("deadletters", command, 17) == "There is no dead letter 17."


def test_status_and_deliveries_are_told(cli: CommandLine, app: str) -> None:
    """A subscription that nobody serves lags without an owner, and has no attempts yet."""
    wanted = subscribe(cli, app)
    feeds = cli.json("publisher", "status")["feeds"]
    (mine,) = [feed for feed in feeds if feed["subscription_id"] == wanted]
    assert (mine["lag"], mine["owner"]) == (0, None)
    assert "nobody" in cli.words("publisher", "status")
    assert cli.json("deliveries", wanted) == []
    unknown = uuid4()
    assert cli.refusal("deliveries", unknown) == f"There is no subscription or site {unknown}."


def test_misuse_is_told(cli: CommandLine, app: str) -> None:
    """An unknown subscription or policy, and a position that is none."""
    unknown = uuid4()
    for command in ("show", "pause", "resume", "replay", "test"):
        assert (
            cli.refusal("subscription", command, unknown) == f"There is no subscription {unknown}."
        )
    assert "expected one of ordered, wix, latest" in cli.refusal(
        "subscription", "policy", subscribe(cli, app), "sometimes"
    )
    assert cli.run("subscription", "replay", unknown, "--from-position", "x").returncode == 2
