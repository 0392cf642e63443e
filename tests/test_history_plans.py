"""Every hot question to the history is answered by its index, however long the history is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from ledger import actors
from ledger.history.table import AuditQuestion, Place, SiteQuestion
from projections import history, search

if TYPE_CHECKING:
    from conftest import TestDatabase, TestServer

CHANGES, SITES, ACTORS = 30_000, 300, 40
BIG = UUID(int=1)
TIME = datetime(2024, 1, 3, tzinfo=UTC)

# A tenth of all changes is of one site; a person acts on many sites, as a ref of each.
LOAD = """
INSERT INTO settings_history
SELECT 0, i, lpad(to_hex(site), 32, '0')::uuid,
    row_number() OVER (PARTITION BY site ORDER BY i), lpad(to_hex(site), 32, '0')::uuid, 'kind',
    timestamptz '2024-01-01Z' + i * interval '10 s', md5(i::text)::uuid, 'WIX_USER',
    md5(site || ' ' || actor)::uuid, NULL,
    CASE WHEN i %% 50 = 0 THEN md5(site || ' ' || actor)::uuid END,
    CASE WHEN i %% 3 = 0 THEN md5(i::text)::uuid END,
    CASE WHEN i %% 500 = 0 THEN 'restore:v1' END,
    'http', NULL, false, NULL,
    CASE WHEN i %% 1000 = 0 THEN '{rare}' ELSE '{createInvoice}' END::text[],
    '{"createInvoice": {"to": true}}', '{"createInvoice": true}',
    md5('identity ' || actor)::uuid, CASE WHEN i %% 50 = 0 THEN md5('identity ' || actor)::uuid END
FROM (
    SELECT i, CASE WHEN i %% 10 = 0 THEN 1 ELSE 2 + i %% %(sites)s END AS site,
        hashint4(i) & (%(actors)s - 1) AS actor
    FROM generate_series(1, %(changes)s) AS i
) AS change;
INSERT INTO settings_history_fields
SELECT partition, originator_id, unnest(fields), version, position, recorded_at,
    jsonb_hash_extended(CASE WHEN version %% 900 = 0 THEN '1' ELSE 'true' END::jsonb, 0)
FROM settings_history;
INSERT INTO actors
SELECT DISTINCT actor_ref, 0, site_id, 'WIX_USER', 'user ' || actor_identity, decode(
    repeat('00', 32), 'hex'), actor_identity
FROM settings_history;
INSERT INTO reasons
SELECT reason_ref, 0, site_id, 'why', decode(repeat('00', 32), 'hex')
FROM settings_history WHERE reason_ref IS NOT NULL;
ANALYZE settings_history, settings_history_fields, actors, reasons;
"""


@pytest.fixture(scope="module")
def connection(
    postgres: TestServer, template: TestDatabase
) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A history of many changes, as an owner who may load it sees it."""
    with (
        postgres.lent("ledger_plans", template.name) as database,
        psycopg.connect(
            database.owner_url, row_factory=psycopg.rows.dict_row, autocommit=True
        ) as connection,
    ):
        values = {"sites": SITES, "actors": 32, "changes": CHANGES}
        load = psycopg.ClientCursor(connection)
        load.execute(LOAD.encode(), values)
        yield connection


def used(
    connection: psycopg.Connection[dict[str, Any]],
    query: search.Query,
    table: str = "settings_history",
) -> tuple[set[str], int]:
    """The indexes that a question uses, and the most rows of the table that any step touches."""
    text, values = query
    explained = connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + text.encode(), values)
    [row] = explained.fetchall()
    indexes: set[str] = set()
    rows = 0
    pending = [row["QUERY PLAN"][0]["Plan"]]
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        indexes |= {node["Index Name"]} if "Index Name" in node else set()
        if table in node.get("Relation Name", ""):
            assert node["Node Type"] != "Seq Scan", json.dumps(row["QUERY PLAN"], indent=1)
            seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            rows = max(rows, round(seen * node["Actual Loops"]))
    return indexes, rows


SITE = {"partition": 0, "originator_id": BIG, "from_version": 1, "to_version": 2500}
HEADS = {0: CHANGES - 10}
BEFORE = Place(TIME, 0, 17_000)
REF = "SELECT md5('1 3')::uuid AS ref"
SOMEBODY = UUID(hashlib.md5(b"identity 3", usedforsecurity=False).hexdigest())
OF_BIG = UUID(hashlib.md5(b"1 3", usedforsecurity=False).hexdigest())


@pytest.mark.parametrize(
    ("query", "values", "index", "most"),
    [
        (history.STANDING_BY_VERSION, {"version": 1500, "position": 2**62}, "by_version", 1),
        (history.STANDING_BY_TIME, {"version": 2**62, "position": 2**62}, "by_site", 1),
        (history.STANDING_BY_TIME, {"version": 2**62, "position": CHANGES}, "by_site", 1),
        (
            history.LAST_VERSIONS,
            {"version": 2000, "fields": ["createInvoice", "rare"]},
            "fields_pkey",
            2,
        ),
        (history.BY_VERSIONS, {"versions": [3, 700, 1999]}, "by_version", 3),
    ],
)
def test_a_moment_is_one_look_up(
    connection: psycopg.Connection[dict[str, Any]],
    query: str,
    values: dict[str, Any],
    index: str,
    most: int,
) -> None:
    """As of a version or a time, and blame: one row each, however long the history is."""
    asked = {"partition": 0, "originator_id": BIG, "time": TIME, **values}
    indexes, rows = used(connection, (query, asked))
    assert indexes == {f"settings_history_{index}"}
    assert rows <= most


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(
    ("options", "index"),
    [
        ({}, "settings_history_by_version"),
        ({"field": "rare"}, "settings_history_fields_pkey"),
        ({"refs": [UUID("4a7b7f93-0000-0000-0000-000000000000")]}, "settings_history_by_actor"),
    ],
)
def test_a_page_of_a_site_is_a_walk_along_an_index(
    connection: psycopg.Connection[dict[str, Any]],
    newest_first: bool,
    options: dict[str, Any],
    index: str,
) -> None:
    """Beginning where the page begins: as many rows as the page has."""
    if "refs" in options:
        options = {"refs": [connection.execute(REF).fetchall()[0]["ref"]], "until": TIME}
    question = SiteQuestion(**SITE, limit=21, newest_first=newest_first, **options)
    indexes, rows = used(connection, search.site_query(question))
    assert index in indexes
    assert rows <= 21


@pytest.mark.parametrize(
    ("options", "index", "most"),
    [
        ({}, "settings_history_by_time", 40),
        ({"before": BEFORE}, "settings_history_by_time", 40),
        ({"since": TIME, "until": TIME}, "settings_history_by_time", 40),
        ({"field": "rare"}, "settings_history_fields_by_time", 40),
        ({"field": "rare", "before": BEFORE}, "settings_history_fields_by_time", 40),
        ({"origin": "restore"}, "settings_history_with_origin", 40),
        ({"text": "why"}, "settings_history_with_reason", 80),
        ({"originators": [(0, BIG)]}, "settings_history_by_site", 40),
        ({"value": 1}, "settings_history_fields_by_value", 80),
        ({"value": 1, "before": BEFORE}, "settings_history_fields_by_value", 80),
        ({"field": "createInvoice", "value": 1}, "settings_history_fields_by_value", 80),
        ({"identities": [SOMEBODY]}, "settings_history_by_identity", 40),
        ({"identities": [SOMEBODY], "before": BEFORE}, "settings_history_by_identity", 40),
        ({"identities": [SOMEBODY]}, "settings_history_for_identity", 40),
        ({"refs": [(0, OF_BIG)]}, "settings_history_by_actor", 40),
        ({"refs": [(0, OF_BIG)]}, "settings_history_by_principal", 40),
    ],
)
def test_a_search_begins_at_the_index_that_narrows_it(
    connection: psycopg.Connection[dict[str, Any]],
    options: dict[str, Any],
    index: str,
    most: int,
) -> None:
    """And looks at about as many rows as its page has."""
    question = AuditQuestion(heads=HEADS, limit=21, **options)
    indexes, rows = used(connection, search.audit_query(question))
    assert index in indexes
    assert rows <= most


def test_who_acts_on_many_sites_is_known_by_one_look_up(
    connection: psycopg.Connection[dict[str, Any]],
) -> None:
    """One for each type and identity, however many references there are."""
    with connection.transaction(force_rollback=True):
        connection.execute(
            "UPDATE actors SET site_id = ref, subject_id = 'everybody', identity = %s", [SOMEBODY]
        )
        connection.execute("ANALYZE actors")
        asked = {"types": ["MEMBER", "WIX_USER"], "subject_id": "everybody"}
        indexes, rows = used(connection, (actors.FIND_IDENTITIES, asked), "actors")
    assert indexes == {"actors_by_subject"}
    assert rows <= 2
