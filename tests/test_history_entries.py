"""Entries: what a replay and an export tell is what the log has, and what the history says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from histories import PATCHES, rows

from ledger import Identity, Ledger
from ledger.errors import LedgerCorrupt, UnknownTopic
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS

if TYPE_CHECKING:
    from conftest import TestDatabase

ANY_TEXT = "".join(map(chr, (*range(1, 36), 92, 127, 133, 0x2028, 0xFEFF, 0x1F600)))


@pytest.fixture
def place(fresh_database: Callable[[], TestDatabase]) -> TestDatabase:
    """A database of the test's own."""
    return fresh_database()


@pytest.fixture
def ledger(place: TestDatabase) -> Iterator[Ledger]:
    with Ledger.open(database_url=place.server_url, migration_url=place.owner_url) as ledger:
        yield ledger


def test_a_replay_says_what_the_history_says(ledger: Ledger, place: TestDatabase) -> None:
    """Change by change: also for whom, why, how, and where a name or a reason was erased."""
    site = ledger.create_site()
    gone, stays = Identity.wix_user("gone"), Identity.member("stays")
    for number, patch in enumerate(PATCHES):
        provenance = Provenance(
            gone if number % 2 else Identity.app("robot"),
            Via("http", f"key-{number}", asserted=number % 3 == 0),
            on_behalf_of=stays if number % 4 == 0 else None,
            reason=f"Because of {number}" if number % 2 == 0 else None,
            origin="restore:v1" if number % 3 == 0 else None,
        )
        ledger.update(site.site_id, ORDERS_SETTINGS, patch, provenance)
    ledger.horizon.reach([0])
    with psycopg.connect(place.owner_url) as owner:
        owner.execute("DELETE FROM actors WHERE subject_id = 'gone'")
        owner.execute("DELETE FROM reasons WHERE text = 'Because of 0'")
    changes = list(ledger.replay())
    assert changes == list(reversed(site.history.changes()))
    assert {change.actor for change in changes} >= {None, Identity.wix_user("erased")}
    assert "erased" in {change.reason for change in changes}


def test_an_export_has_what_was_set_letter_for_letter(ledger: Ledger) -> None:
    """``changes`` and ``settings`` are the log's own bytes; names and reasons may be any text."""
    site = ledger.create_site()
    site.update({"createInvoice": True}, by=Identity.wix_user(ANY_TEXT), reason=ANY_TEXT)
    out = io.BytesIO()
    ledger.audit.export(out)
    created, changed = out.getvalue().splitlines(keepends=True)
    first, second = (bytes(row["state"]) for row in rows(ledger, "SELECT state FROM events"))
    settings = first[first.index(b'"settings":') : first.index(b',"site_id":')]
    assert created.endswith(settings + b"}\n")
    for name, behind in (("changes", b',"event_id":'), ("settings", b',"site_id":')):
        start = second.index(f'"{name}":'.encode())
        assert second[start : second.index(behind, start)] in changed
    told = json.loads(changed)
    assert (told["actor"]["id"], told["reason"]) == (ANY_TEXT, ANY_TEXT)


@pytest.mark.parametrize(
    ("topic", "state", "error", "said"),
    [
        ("ledger:SettingsMoved", b"{}", UnknownTopic, "Upgrade"),
        ("ledger:SettingsChanged", b'{"kind":"x"}', LedgerCorrupt, "position 2: its facts cannot"),
        ("ledger:SettingsChanged", b"\xff", LedgerCorrupt, "position 2: its facts cannot"),
    ],
)
def test_what_cannot_be_read_stops_a_replay_loudly(
    ledger: Ledger,
    place: TestDatabase,
    topic: str,
    state: bytes,
    error: type[Exception],
    said: str,
) -> None:
    """What a newer program wrote, and what says nothing: neither is passed over."""
    ledger.create_site()
    with psycopg.connect(place.owner_url) as owner:
        owner.execute(
            "INSERT INTO events VALUES (0, 2, %s, 1, %s, %s, %s)",
            (uuid4(), topic, state, bytes(32)),
        )
    with pytest.raises(error, match=said):
        list(ledger.replay())
