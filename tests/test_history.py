"""The history of a site: who changed what, when and why, and no person's data in the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from ledger import Identity, Ledger
from ledger.aggregate import originator_id
from ledger.errors import InvalidInput
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS

if TYPE_CHECKING:
    from conftest import TestDatabase, TestServer

Owner = psycopg.Connection[dict[str, Any]]
ERASED = "erased"


@pytest.fixture(scope="module")
def place(postgres: TestServer, template: TestDatabase) -> Iterator[TestDatabase]:
    """One database for this module; every test makes sites of its own."""
    with postgres.lent("ledger_history", template.name) as database:
        yield database


@pytest.fixture(scope="module")
def ledger(place: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    directory = tmp_path_factory.mktemp("history")
    with Ledger.open(database_url=place.server_url, data_dir=directory) as ledger:
        yield ledger


@pytest.fixture
def owner(place: TestDatabase) -> Iterator[Owner]:
    with psycopg.connect(place.owner_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def facts_of(owner: Owner, site_id: UUID) -> list[dict[str, Any]]:
    """The stored facts of a site, oldest first."""
    rows = owner.execute(
        "SELECT state FROM events WHERE originator_id = %s ORDER BY originator_version",
        (originator_id(site_id, ORDERS_SETTINGS.fqdn),),
    ).fetchall()
    return [json.loads(bytes(row["state"])) for row in rows]


# --- what a history tells ------------------------------------------------------------------------


def test_the_creation_is_version_one_and_comes_from_nothing(ledger: Ledger) -> None:
    """A new site's history is its creation: every default with ``to`` alone, by nobody."""
    site = ledger.create_site()
    (creation,) = site.history.changes()
    assert creation.version == 1
    assert creation.actor is None
    assert creation.reason is None
    assert creation.settings == ORDERS_SETTINGS.defaults()
    assert creation.changes == {
        "createInvoice": {"to": False},
        "emailNotifications.orderPlaced": {"to": True},
        "emailNotifications.orderShipped": {"to": True},
        "emailNotifications.pickupReady": {"to": True},
        "inventoryUpdateTrigger": {"to": "ON_ORDER_PLACED"},
    }


def test_changes_come_newest_first_and_tell_all(ledger: Ledger) -> None:
    """Each change says what, from and to, when, by whom, for whom, why and where from."""
    site = ledger.create_site()
    user, app, visitor = (str(uuid4()) for _ in range(3))
    first = site.update({"createInvoice": True}, reason="The books", by=Identity.wix_user(user))
    second = ledger.update(
        site.site_id,
        ORDERS_SETTINGS,
        {"createInvoice": None, "emailNotifications": {"pickupReady": False}},
        Provenance(
            Identity.app(app),
            Via("http", "cred_1"),
            on_behalf_of=Identity.anonymous_visitor(visitor),
            origin="restore:v1",
            request_id="req-7",
        ),
    )
    newest, older, creation = site.history.changes()

    assert (newest.version, older.version, creation.version) == (3, 2, 1)
    assert creation.position < older.position < newest.position
    assert (older.position, newest.position) == (first.position, second.position)
    assert (older.timestamp, newest.timestamp) == (first.updated, second.updated)
    assert older.actor == Identity.wix_user(user)
    assert older.reason == "The books"
    assert older.on_behalf_of is None
    assert older.origin is None
    assert older.changes == {"createInvoice": {"from": False, "to": True}}
    assert newest.actor == Identity.app(app)
    assert newest.on_behalf_of == Identity.anonymous_visitor(visitor)
    assert newest.reason is None
    assert newest.origin == "restore:v1"
    assert newest.changes == {
        "createInvoice": {"from": True, "to": False},
        "emailNotifications.pickupReady": {"from": True, "to": False},
    }
    assert newest.settings == site.settings()


def test_a_patch_without_effect_is_in_the_history(ledger: Ledger) -> None:
    """That somebody asked is a fact, even where no value differs."""
    site = ledger.create_site()
    site.update({}, reason="Just to see")
    change = site.history.changes()[0]
    assert (change.version, change.changes, change.reason) == (2, {}, "Just to see")


def test_a_part_of_the_history_is_read_by_version(ledger: Ledger) -> None:
    """Bounds are inclusive, a limit takes the newest, and nothing is no error."""
    site = ledger.create_site()
    for _ in range(4):
        site.update({})

    def versions(*bounds: int, limit: int | None = None) -> list[int]:
        return [change.version for change in site.history.changes(*bounds, limit=limit)]

    assert versions() == [5, 4, 3, 2, 1]
    assert versions(2, 4) == [4, 3, 2]
    assert versions(4) == [5, 4]
    assert versions(limit=2) == [5, 4]
    assert versions(1, 3, limit=1) == [3]
    assert versions(6) == []


def test_histories_of_sites_are_apart(ledger: Ledger) -> None:
    """A site's history holds its own changes only, though the log holds all in one order."""
    one, other = ledger.create_site(), ledger.create_site()
    for number in range(3):
        one.update({}, reason=f"one {number}")
        other.update({}, reason=f"other {number}")
    assert [change.reason for change in one.history.changes()] == [
        "one 2",
        "one 1",
        "one 0",
        None,
    ]


def test_one_who_acts_twice_is_one_reference_on_each_site(ledger: Ledger, owner: Owner) -> None:
    """References name (site, identity): the same on one site, unlinkable between two."""
    someone = Identity.wix_user(uuid4())
    sites = [ledger.create_site(), ledger.create_site()]
    for site in sites:
        site.update({}, by=someone)
        site.update({}, by=someone)
    actors = [[facts["actor"] for facts in facts_of(owner, site.site_id)[1:]] for site in sites]
    assert actors[0][0] == actors[0][1]
    assert actors[1][0] == actors[1][1]
    assert actors[0][0]["ref"] != actors[1][0]["ref"]
    assert actors[0][0]["commitment"] != actors[1][0]["commitment"]


def test_one_id_of_two_types_is_two_identities(ledger: Ledger) -> None:
    """An app and a user with the same id stay apart in a history."""
    site, same = ledger.create_site(), str(uuid4())
    site.update({}, by=Identity.app(same))
    site.update({}, by=Identity.wix_user(same))
    assert [change.actor for change in site.history.changes()] == [
        Identity.wix_user(same),
        Identity.app(same),
        None,
    ]


# --- no personal data in events --------------------------------------------------------------------


def test_no_event_holds_an_id_or_a_reason(ledger: Ledger, owner: Owner) -> None:
    """Neither ids of those who act nor reasons are anywhere in the stored bytes."""
    site = ledger.create_site(name="Anna's shop")
    secrets = ["anna@example.com", "visitor-4711-of-hers", "Because Anna asked for it"]
    ledger.update(
        site.site_id,
        ORDERS_SETTINGS,
        {"createInvoice": True},
        Provenance(
            Identity.wix_user(secrets[0]),
            Via("http", "cred_1"),
            on_behalf_of=Identity.anonymous_visitor(secrets[1]),
            reason=secrets[2],
        ),
    )
    assert site.history.changes()[0].reason == secrets[2]
    for secret in [*secrets, "Anna", "anna"]:
        for spelling in (
            secret.encode(),
            secret.encode("utf-16-le"),
            secret.encode().hex().encode(),
        ):
            row = owner.execute(
                "SELECT count(*) AS found FROM events WHERE position(%s::bytea IN state) > 0",
                (spelling,),
            ).fetchone()
            assert row == {"found": 0}, secret


def test_an_event_refers_by_reference_and_commitment_alone(ledger: Ledger, owner: Owner) -> None:
    """The stored actor is type, ref and commitment; the stored reason is ref and commitment."""
    site = ledger.create_site()
    site.update({}, reason="Why not", by=Identity.member("m"))
    changed = facts_of(owner, site.site_id)[1]
    assert changed["actor"].keys() == {"type", "ref", "commitment"}
    assert changed["actor"]["type"] == "MEMBER"
    assert changed["reason"].keys() == {"ref", "commitment"}
    assert UUID(changed["actor"]["ref"]).version == UUID(changed["reason"]["ref"]).version == 4
    assert changed["via"] == {"channel": "library", "credential": None, "asserted": True}
    assert not changed.keys() & {"on_behalf_of", "origin", "request_id"}


@pytest.mark.parametrize(
    ("name", "provenance"),
    [
        ("origin", {"origin": "because Anna asked"}),
        ("origin", {"origin": "anna@example.com"}),
        ("origin", {"origin": ""}),
        ("origin", {"origin": "a" * 129}),
        ("request_id", {"request_id": "two words"}),
        ("request_id", {"request_id": "line\nbreak"}),
        ("request_id", {"request_id": "ends\n"}),
        ("reason", {"reason": ""}),
        ("reason", {"reason": "   "}),
        ("reason", {"reason": "a\x00b"}),
        ("reason", {"reason": "\ud800"}),
        ("actor", {"actor": Identity.wix_user("")}),
        ("actor", {"actor": Identity.wix_user("a\x00")}),
        ("on_behalf_of", {"on_behalf_of": Identity.member("\ud800")}),
    ],
)
def test_what_cannot_be_kept_is_refused_at_the_door(
    ledger: Ledger, name: str, provenance: dict[str, Any]
) -> None:
    """Tags admit no prose, texts must be storable; the error names which, and nothing is recorded."""
    site = ledger.create_site()
    who = {"actor": Identity.app("a"), "via": Via("library")} | provenance
    with pytest.raises(InvalidInput) as caught:
        ledger.update(site.site_id, ORDERS_SETTINGS, {}, Provenance(**who))
    assert caught.value.name == name
    assert site.record().version == 1


def test_commitments_prove_id_and_reason(ledger: Ledger, owner: Owner) -> None:
    """With the kept salts, the event's commitments can be computed from id and text, and no others."""
    site = ledger.create_site()
    site.update({}, reason="Für die Buchhaltung", by=Identity.wix_user("user-1"))
    facts = facts_of(owner, site.site_id)[1]
    actor = owner.execute(
        "SELECT * FROM actors WHERE ref = %s", (facts["actor"]["ref"],)
    ).fetchone()
    reason = owner.execute(
        "SELECT * FROM reasons WHERE ref = %s", (facts["reason"]["ref"],)
    ).fetchone()
    assert actor is not None
    assert reason is not None
    assert len(actor["salt"]) == len(reason["salt"]) == 32

    def proof(salt: bytes, what: bytes, value: str) -> str:
        return hashlib.sha256(salt + what + b"\x00" + value.encode()).hexdigest()

    assert facts["actor"]["commitment"] == proof(actor["salt"], b"WIX_USER", "user-1")
    assert facts["actor"]["commitment"] != proof(actor["salt"], b"WIX_USER", "user-2")
    assert facts["actor"]["commitment"] != proof(actor["salt"], b"APP", "user-1")
    assert facts["reason"]["commitment"] == proof(reason["salt"], b"reason", "Für die Buchhaltung")
    assert (actor["type"], actor["subject_id"]) == ("WIX_USER", "user-1")
    assert reason["text"] == "Für die Buchhaltung"


# --- erasure -----------------------------------------------------------------------------------------


def test_an_erased_actor_is_shown_as_erased(ledger: Ledger, owner: Owner) -> None:
    """Deleting the row erases the person; type and everything else stay, and the log verifies."""
    site = ledger.create_site()
    site.update({"createInvoice": True}, reason="kept", by=Identity.wix_user("gone"))
    site.update({}, by=Identity.app("stays"))
    before = site.history.changes()
    ref = facts_of(owner, site.site_id)[1]["actor"]["ref"]
    assert owner.execute("DELETE FROM actors WHERE ref = %s", (ref,)).rowcount == 1

    newest, erased, creation = site.history.changes()
    assert (newest, creation) == (before[0], before[2])
    assert erased.actor == Identity.wix_user(ERASED)
    assert erased.reason == "kept"
    assert erased.changes == before[1].changes
    assert ledger.verify().fault is None


def test_an_erased_reason_is_shown_as_erased(ledger: Ledger, owner: Owner) -> None:
    """A reason that was deleted is told from one that was never given."""
    site = ledger.create_site()
    site.update({}, reason="Names a person", by=Identity.wix_user("someone"))
    site.update({}, by=Identity.wix_user("someone"))
    ref = facts_of(owner, site.site_id)[1]["reason"]["ref"]
    assert owner.execute("DELETE FROM reasons WHERE ref = %s", (ref,)).rowcount == 1

    without, erased, _ = site.history.changes()
    assert without.reason is None
    assert erased.reason == ERASED
    assert erased.actor == Identity.wix_user("someone")
    assert ledger.verify().fault is None


def test_one_who_was_erased_and_acts_again_is_someone_new(ledger: Ledger, owner: Owner) -> None:
    """After erasure the same id gets a new reference and salt: the past stays unlinkable."""
    site, someone = ledger.create_site(), Identity.wix_user("back again")
    site.update({}, by=someone)
    owner.execute("DELETE FROM actors WHERE subject_id = 'back again'")
    site.update({}, by=someone)
    newest, erased, _ = site.history.changes()
    assert newest.actor == someone
    assert erased.actor == Identity.wix_user(ERASED)
    first, second = (facts["actor"] for facts in facts_of(owner, site.site_id)[1:])
    assert first["ref"] != second["ref"]
    assert first["commitment"] != second["commitment"]
