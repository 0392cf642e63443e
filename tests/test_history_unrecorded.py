"""Before the first change: a site has the defaults from its creation on, and history says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from ledger import Ledger
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.errors import InvalidInput, NotFound
from ledger.history import SiteHistory, horizon
from ledger.settings import changes_between

if TYPE_CHECKING:
    from conftest import TestDatabase, TestServer

DEFAULTS = CHECKOUT_SETTINGS.defaults()


@pytest.fixture(scope="module")
def ledger(
    postgres: TestServer, template: TestDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    directory = tmp_path_factory.mktemp("unrecorded")
    with (
        postgres.lent("ledger_unrecorded", template.name) as database,
        Ledger.open(database_url=database.server_url, data_dir=directory) as ledger,
    ):
        yield ledger


@pytest.fixture
def ripe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a time be final as soon as it has passed: one writer writes, and none is at work."""
    monkeypatch.setattr(horizon, "RIPE_SECONDS", 0.001)


@pytest.fixture
def past(ledger: Ledger, ripe: None) -> SiteHistory:
    """The history of a kind of which nothing is recorded on a site that has another."""
    return ledger.site(ledger.create_site().site_id, CHECKOUT_SETTINGS).history


def created_at(ledger: Ledger, past: SiteHistory) -> datetime:
    return ledger.directory.site(past.site_id).created_at


def test_at_any_moment_since_the_creation_the_defaults_stood(
    ledger: Ledger, past: SiteHistory
) -> None:
    """At version 0 and no position, with the dates that a GET answers."""
    record = ledger.get(past.site_id, CHECKOUT_SETTINGS)
    for found in (past.at(), past.at_version(0), past.at("v0"), past.at(created_at(ledger, past))):
        assert (found.version, found.position) == (record.version, None) == (0, None)
        assert found.settings == record.settings == DEFAULTS
        assert (found.created, found.timestamp) == (record.created, record.updated)


def test_before_the_creation_there_was_nothing(ledger: Ledger, past: SiteHistory) -> None:
    """The error says when that was, and versions that there are not stay unknown."""
    with pytest.raises(InvalidInput, match="at: is before the site was created, at 20"):
        past.at(created_at(ledger, past) - timedelta(seconds=1))
    with pytest.raises(InvalidInput, match="at: .* lies in the future"):
        past.at(datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(NotFound, match="There is no version 1"):
        past.at_version(1)
    with pytest.raises(NotFound, match="There is no version 1"):
        past.revert(1)
    with pytest.raises(InvalidInput, match="version: versions are numbered from 1"):
        past.revert(0)
    with pytest.raises(InvalidInput, match="version: versions are numbered from 0"):
        past.at_version(-1)
    with pytest.raises(NotFound, match="There is no site"):
        ledger.site(uuid4(), CHECKOUT_SETTINGS)


def test_nobody_is_owed_a_default(ledger: Ledger, past: SiteHistory) -> None:
    """Blame names each field with version 0; changes and replay are empty, a diff has nothing."""
    owed = past.blame()
    values = {path: ends["to"] for path, ends in changes_between({}, DEFAULTS).items()}
    assert {path: one.value for path, one in owed.items()} == values
    assert {(one.version, one.position, one.actor) for one in owed.values()} == {(0, None, None)}
    assert list(past.changes()) == list(past.each()) == []
    other = ledger.site(ledger.create_site().site_id, CHECKOUT_SETTINGS).history
    assert past.diff(None, of=other).changes == past.diff(0).changes == {}


def test_what_stood_before_the_first_change_stays_what_it_was(
    ledger: Ledger, past: SiteHistory
) -> None:
    """The answers of before are those of after, and can be brought back."""
    site = ledger.site(past.site_id, CHECKOUT_SETTINGS)
    began, zero = past.at(created_at(ledger, past)), past.at_version(0)
    site.update({"checkoutFields": {"mitEnabled": True}})
    assert past.at(created_at(ledger, past)) == began == zero == past.at_version(0)
    assert past.diff(0).changes == {"checkoutFields.mitEnabled": {"from": False, "to": True}}
    assert past.at_version(1).settings == DEFAULTS
    undone = past.restore(0, reason="as it was")
    assert undone.version == site.record().version == 3
    assert site.settings() == DEFAULTS
    assert past.changes()[0].origin == "restore:v0"


def test_a_restore_of_what_nobody_changed_records_as_any_other(
    ledger: Ledger, past: SiteHistory
) -> None:
    """The change that it records creates the settings first; a dry run does not."""
    assert past.restore(0, dry_run=True).json() == {"version": None, "changes": {}}
    assert past.at().version == 0
    assert past.restore(None, reason="to begin with").version == 2
    assert [change.version for change in past.changes()] == [2, 1]
