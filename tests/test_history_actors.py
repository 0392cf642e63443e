"""Who acted, over all sites: one identity however many references, and none once erased."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from faults.waiting import eventually
from histories import PATCHES, all_pages, rows
from psycopg.rows import dict_row

from ledger import Identity, Ledger, actors
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.errors import InvalidInput
from ledger.handle import SiteHandle
from ledger.history import Change
from ledger.identity import Provenance, Via
from ledger.migrate import migrate
from ledger.orders_settings import ORDERS_SETTINGS

if TYPE_CHECKING:
    from conftest import TestDatabase

MIGRATION = Path(__file__).parents[1] / "migrations" / "0007_actor_identity.sql"
Owner = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def place(fresh_database: Callable[[], TestDatabase]) -> TestDatabase:
    """A database of the test's own, with three partitions."""
    database = fresh_database()
    migrate(database.owner_url, partitions=3)
    return database


@pytest.fixture
def ledger(place: TestDatabase) -> Iterator[Ledger]:
    with Ledger.open(database_url=place.server_url, migration_url=place.owner_url) as ledger:
        yield ledger


@pytest.fixture
def owner(place: TestDatabase) -> Iterator[Owner]:
    with psycopg.connect(place.owner_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def sites(ledger: Ledger) -> list[SiteHandle]:
    """Six sites, on all partitions, on which Ann and Bob act, and an app for each of them."""
    first = uuid4().int & ~7
    made = [ledger.create_site(UUID(int=first + number)) for number in range(6)]
    ann, bob, member = Identity.wix_user("ann"), Identity.wix_user("bob"), Identity.member("ann")
    app = Identity.app("app-1")
    who: list[tuple[Identity, Identity | None]] = [
        (ann, None),
        (bob, None),
        (app, ann),
        (member, None),
        (ann, ann),
        (app, bob),
        (bob, ann),
    ]
    for number, patch in enumerate(PATCHES * 3):
        actor, principal = who[number % len(who)]
        why = Provenance(actor, Via("http", "key_9"), on_behalf_of=principal, reason=f"no {number}")
        kind = CHECKOUT_SETTINGS if number % 11 == 10 else ORDERS_SETTINGS
        site = made[number % len(made)].site_id
        ledger.update(site, kind, patch if kind is ORDERS_SETTINGS else {}, why)
    return made


def found(ledger: Ledger, by: Identity | str, limit: int = 3, **options: Any) -> list[Change]:
    return all_pages(
        lambda cursor: ledger.audit.search(by=by, limit=limit, cursor=cursor, **options)
    )


def expected(ledger: Ledger, by: Identity | str) -> list[Change]:
    """What somebody did, or what was done for them, by looking at every change of the log."""

    def is_meant(who: Identity | None) -> bool:
        return who is not None and (who.id == by if isinstance(by, str) else who == by)

    changes = [one for one in ledger.replay() if is_meant(one.actor) or is_meant(one.on_behalf_of)]
    return sorted(
        changes, key=lambda one: (one.timestamp, one.partition, one.position), reverse=True
    )


EVERYBODY = ["ann", "bob", "app-1", Identity.wix_user("ann"), Identity.member("ann")]


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_a_search_finds_what_anybody_did_and_what_was_done_for_them(
    ledger: Ledger, sites: list[SiteHandle], limit: int
) -> None:
    """Once each, whatever the pages, with a type or of any, alone or with other conditions."""
    for by in EVERYBODY:
        right = expected(ledger, by)
        assert right
        assert found(ledger, by, limit) == right
        for kind in (ORDERS_SETTINGS, CHECKOUT_SETTINGS):
            of_kind = [one for one in right if one.kind == kind.fqdn]
            assert found(ledger, by, limit, kinds=[kind]) == of_kind
        some = [sites[0].site_id, sites[4].site_id]
        assert found(ledger, by, limit, sites=some) == [one for one in right if one.site_id in some]
        assert found(ledger, by, limit, field="createInvoice") == [
            one for one in right if "createInvoice" in one.changes
        ]


def test_all_references_of_one_share_their_identity(
    ledger: Ledger, sites: list[SiteHandle], owner: Owner
) -> None:
    """One number for each type and id on all sites; rows of the history have the same."""
    subjects = owner.execute(
        "SELECT count(DISTINCT (type, subject_id)) AS subjects, count(DISTINCT identity) AS numbers, "
        "count(DISTINCT ref) AS refs FROM actors"
    ).fetchall()
    assert subjects[0]["subjects"] == subjects[0]["numbers"] < subjects[0]["refs"]
    ledger.horizon.reach(ledger.directory.partitions())
    assert {checked.fault for checked in ledger.projections.check()} == {None}


def test_whom_two_writers_met_at_once_is_found_whole(
    ledger: Ledger, sites: list[SiteHandle], owner: Owner
) -> None:
    """Two numbers for one person cost a second walk, and nothing else."""
    right = expected(ledger, "ann")
    owner.execute(
        "UPDATE actors SET identity = gen_random_uuid() WHERE subject_id = 'ann' AND partition = 1"
    )
    ledger.projections.rebuild("settings_history")
    assert found(ledger, "ann") == right
    site = ledger.create_site()
    site.update({"createInvoice": True}, by=Identity.wix_user("ann"))
    assert found(ledger, "ann")[0].site_id == site.site_id


def test_newcomers_of_one_batch_share_their_identity(ledger: Ledger) -> None:
    """Also where nobody knew them, and the same one acts on several sites at once."""
    ann, bob = Identity.wix_user("ann"), Identity.wix_user("bob")
    wanted = [(uuid4(), who) for who in (ann, bob, ann)]
    with ledger.database.connection() as connection:
        actors.add_tokens(connection, 0, wanted)
    with ledger.database.connection() as connection:
        [number] = actors.find_identities(connection, "ann", None)
        assert actors.find_identities(connection, "ann", "WIX_USER") == [number]
        assert actors.find_identities(connection, "ann", "MEMBER") == []
        assert actors.find_identities(connection, "bob", None) != [number]
        refs = actors.find_refs(connection, "ann", None, [(0, site_id) for site_id, _ in wanted])
        assert len(refs) == 2


def test_whoever_is_erased_is_found_nowhere(
    ledger: Ledger, sites: list[SiteHandle], owner: Owner
) -> None:
    """Deleting from actors is enough, and no number is left that would lead to anybody."""
    before = len(expected(ledger, "bob"))
    owner.execute("DELETE FROM actors WHERE subject_id = 'ann'")
    with pytest.raises(InvalidInput, match="by: nobody with the id ann has acted here"):
        found(ledger, "ann")
    assert len(found(ledger, "bob")) == before
    [left] = rows(
        ledger,
        "SELECT count(*) AS numbers FROM settings_history WHERE coalesce(actor_identity, "
        "on_behalf_of_identity) NOT IN (SELECT identity FROM actors)",
    )
    assert left["numbers"] == 0
    assert {checked.fault for checked in ledger.projections.check()} == {None}
    ledger.projections.rebuild("settings_history")
    assert {checked.fault for checked in ledger.projections.check()} == {None}


def test_whoever_is_erased_on_one_site_is_found_on_the_others_only(
    ledger: Ledger, sites: list[SiteHandle]
) -> None:
    """The serving role may do it; what they did there cannot be told from the others any more."""
    here = sites[0].site_id
    with ledger.database.connection() as connection:
        connection.execute("DELETE FROM actors WHERE site_id = %s", (here,))
    right = expected(ledger, "ann")
    assert right
    assert here not in {one.site_id for one in right if one.actor and one.actor.id == "ann"}
    assert found(ledger, "ann") == right
    assert found(ledger, "ann", sites=[here]) == []
    sites[0].update({"createInvoice": True}, by=Identity.wix_user("ann"))
    assert len(found(ledger, "ann", sites=[here])) == 1


def test_an_erasure_waits_for_a_rebuild(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """Else a row that the rebuild made already would keep the number."""
    waiting: list[Any] = []

    def erase() -> None:
        with ledger.database.connection() as connection:
            connection.execute("DELETE FROM actors WHERE subject_id = 'ann'")

    def meanwhile(done: int, total: int) -> None:
        if not waiting:
            waiting.append(pool.submit(erase))
            eventually(
                lambda: rows(
                    ledger,
                    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
                    "AND mode = 'ShareLock'",
                )
            )

    with ThreadPoolExecutor(1) as pool:
        ledger.projections.rebuild("settings_history", meanwhile)
        waiting[0].result()
    assert {checked.fault for checked in ledger.projections.check()} == {None}


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        (
            "UPDATE settings_history SET actor_identity = gen_random_uuid() WHERE position = 2",
            "position 2: the identity is not what it is derived from",
        ),
        (
            "UPDATE settings_history SET on_behalf_of_identity = NULL WHERE position = 3",
            "position 3: the identity is not what it is derived from",
        ),
        (
            "UPDATE settings_history_fields SET value_hash = 7 WHERE position = 2",
            ("position 2: the hash of the value of createInvoice is not what it is derived from"),
        ),
    ],
)
def test_a_check_names_what_search_would_not_find(
    fresh_database: Callable[[], TestDatabase], tampering: str, fault: str
) -> None:
    """The columns that only find rows are compared as well, and a rebuild mends them."""
    place = fresh_database()
    with Ledger.open(database_url=place.server_url, migration_url=place.owner_url) as ledger:
        site, user = ledger.create_site(), Identity.wix_user("ann")
        site.update({"createInvoice": True}, by=user)
        why = Provenance(Identity.app("a"), Via("library"), on_behalf_of=user)
        ledger.update(site.site_id, ORDERS_SETTINGS, {"createInvoice": False}, why)
        ledger.horizon.reach([0])
        assert {checked.fault for checked in ledger.projections.check()} == {None}
        with psycopg.connect(place.owner_url) as owner:
            owner.execute(tampering.encode())
        assert [checked.fault for checked in ledger.projections.check()] == [None, fault]
        ledger.projections.rebuild("settings_history")
        assert {checked.fault for checked in ledger.projections.check()} == {None}


def test_a_ledger_from_before_is_searched_the_same(
    ledger: Ledger, sites: list[SiteHandle], owner: Owner
) -> None:
    """The migration fills in what writers and followers write since."""
    right = {by: found(ledger, by) for by in ("ann", "bob")}
    with owner.transaction():
        owner.execute(
            b"""
            DROP TRIGGER wait_for_history ON actors; DROP TRIGGER forget_identities ON actors;
            DROP FUNCTION wait_for_history, forget_identities;
            ALTER TABLE actors DROP COLUMN identity;
            ALTER TABLE settings_history DROP COLUMN actor_identity,
                DROP COLUMN on_behalf_of_identity;
            ALTER TABLE settings_history_fields DROP COLUMN value_hash;
            CREATE INDEX actors_by_subject ON actors (subject_id);
            """
        )
        owner.execute(MIGRATION.read_bytes())
    assert {by: found(ledger, by) for by in right} == right
    assert len(list(ledger.audit.search(value=False, limit=500))) > 0
    assert {checked.fault for checked in ledger.projections.check()} == {None}
