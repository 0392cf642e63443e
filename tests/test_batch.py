"""What a batch is decided on: read in one look, each thing by its own key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest
from conftest import TestDatabase
from faults.opening import SOMEONE, update

from ledger import Identity, Ledger
from ledger.batch import read_surroundings
from ledger.commands import SettingsCommand, deadline_in
from ledger.database import Database
from ledger.folding import Surroundings
from ledger.idempotency import Idempotency, UsedKey
from ledger.identity import Provenance, Via
from ledger.link import SESSION, Link
from ledger.orders_settings import ORDERS_SETTINGS

KEY = Idempotency("credential", "the key", b"request")
OTHER_KEY = Idempotency("credential", "another key", b"request")


@pytest.fixture
def link(ledger: Ledger) -> Iterator[Link]:
    link = Link(ledger.database, "test")
    yield link
    link.disconnect()


def command(
    site_id: UUID, actor: Identity = SOMEONE, idempotency: Idempotency | None = None
) -> SettingsCommand:
    return SettingsCommand(
        deadline=deadline_in(60),
        site_id=site_id,
        kind=ORDERS_SETTINGS,
        patch={"createInvoice": True},
        provenance=Provenance(actor, Via("library")),
        idempotency=idempotency,
    )


def look(ledger: Ledger, link: Link, commands: Sequence[SettingsCommand]) -> Surroundings:
    around = link.insisting(
        commands, lambda connection: read_surroundings(connection, 0, ledger.current, commands)
    )
    assert around is not None
    return around


def test_each_site_key_and_actor_is_found_or_is_not(ledger: Ledger, link: Link) -> None:
    """A batch sees what there is of each site, and nothing where there is nothing."""
    first, second = (ledger.create_site() for _ in range(2))
    standing = update(ledger, first.site_id, {"createInvoice": True}, idempotency=KEY)
    unknown = uuid4()
    commands = [
        command(first.site_id, idempotency=KEY),
        command(first.site_id, idempotency=OTHER_KEY),
        command(unknown, idempotency=KEY),
        command(second.site_id),
    ]
    around = look(ledger, link, commands)
    assert around.records == {
        commands[0].originator_id: standing,
        commands[3].originator_id: second.record(),
    }
    assert around.used_keys == {commands[0].key_address: UsedKey(b"request", standing.version)}
    assert around.tokens.keys() == {
        (site_id, SOMEONE) for site_id in (first.site_id, second.site_id, unknown)
    }
    # Whoever was unknown is known from then on, by the same reference.
    assert look(ledger, link, commands).tokens == around.tokens


def test_whoever_is_known_is_not_looked_for(ledger: Ledger, link: Link) -> None:
    """Tokens at hand are handed back beside those that are read."""
    site = ledger.create_site()
    token = {"type": "WIX_USER", "ref": str(uuid4()), "commitment": "none"}
    known = {(site.site_id, SOMEONE): token}
    other = Identity.wix_user("somebody else")
    commands = [command(site.site_id), command(site.site_id, other)]
    around = link.insisting(
        commands,
        lambda connection: read_surroundings(connection, 0, ledger.current, commands, known),
    )
    assert around is not None
    assert around.tokens[site.site_id, SOMEONE] == token
    assert around.tokens[site.site_id, other]["type"] == "WIX_USER"


def test_nothing_is_found_by_way_of_what_others_have(database: TestDatabase) -> None:
    """Before anything is known of the tables' contents, each look-up takes the index of its key.

    Another index leads past each site that somebody acted on, and a plan is kept.
    """
    with Database(database.server_url).connect("test", options=SESSION) as connection:
        connection.execute(
            "PREPARE look AS SELECT * FROM read_surroundings($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        )
        rows = connection.execute(
            "EXPLAIN EXECUTE look (0, NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL)"
        ).fetchall()
    plan = " ".join(row["QUERY PLAN"] for row in rows)
    assert set(re.findall(r"using (\w+)", plan.replace(" Backward", ""))) == {
        "current_settings_pkey",
        "idempotency_keys_pkey",
        "actors_partition_site_id_type_subject_id_key",
    }


def test_old_versions_are_not_passed_on_the_way_to_the_newest(
    ledger: Ledger, database: TestDatabase
) -> None:
    """While a snapshot keeps each version of a row, the one that stands is the first to be found."""
    site = ledger.create_site().site_id
    with Database(database.owner_url).connect("test") as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM current_settings")
        for turn in range(200):
            update(ledger, site, {"createInvoice": turn % 2 == 0})
        assert _blocks_to_find(database, command(site).originator_id) <= 4


def _blocks_to_find(database: TestDatabase, originator_id: UUID) -> int:
    """How many blocks a look at a site's settings touches."""
    with Database(database.server_url).connect("test", options=SESSION) as connection:
        connection.execute(
            "PREPARE look (uuid[]) AS "
            "SELECT * FROM read_surroundings(0, $1, '{}', '{}', '{}', 1, '{}', '{}', '{}')"
        )
        row = connection.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE look (ARRAY['{}'::uuid])".replace(
                "{}", str(originator_id)
            ).encode()
        ).fetchone()
    assert row is not None
    plan = row["QUERY PLAN"][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
