"""A ledger of any size, loaded by SQL: much faster than by updates, and just as valid.

Every tenth change is on one hot site, the others are spread over the rest. One third of the
changes is by the operator (on all sites), one third by agents (each on many sites), one third
by the owner of the site. After a site's creation each change turns ``createInvoice`` over; the
other fields stand since the creation, so that blame has to look back as far as it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import NAMESPACE_URL, UUID, uuid5

import psycopg
from psycopg.rows import dict_row

from ledger import Identity, Ledger
from ledger.aggregate import CHANGED_TOPIC, CREATED_TOPIC, originator_id, via_facts
from ledger.canonical import canonical_bytes
from ledger.database import Connection
from ledger.identity import IdentityType, Via
from ledger.orders_settings import ORDERS_SETTINGS

START = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=1)
PARTITION = 0
AGENTS = 40
FEWEST_CHANGES = 100
OPERATOR = Identity.wix_user("operator")


@dataclass(frozen=True)
class Loaded:
    """What was loaded, and whom and what to ask for."""

    changes: int
    hot_site: UUID
    plain_site: UUID
    owner: Identity
    agent: Identity
    operator: Identity = OPERATOR

    @property
    def middle(self) -> datetime:
        """When half of the changes were recorded."""
        return START + STEP * (self.changes // 2)


def load(ledger: Ledger, changes: int, sites: int) -> Loaded:
    """Record ``changes`` events (creations included) over ``sites`` sites in an empty ledger.

    The history's projection takes them on as well. Raises ValueError for sizes that leave
    something out, RuntimeError where the log is not empty.
    """
    if changes < FEWEST_CHANGES or sites < 2:
        message = f"expected at least {FEWEST_CHANGES} changes and 2 sites"
        raise ValueError(message)
    with closing(owner_connection(ledger)) as connection:
        if connection.execute("SELECT FROM events LIMIT 1").fetchone() is not None:
            message = "the ledger holds events already: it may be somebody's"
            raise RuntimeError(message)
        with connection.transaction():
            _plan(connection, changes, sites)
            _record(connection)
            loaded = _loaded(connection, changes)
        connection.execute("VACUUM (ANALYZE) sites, actors, events, current_settings")
    ledger.projections.rebuild("settings_history")
    return loaded


def owner_url(ledger: Ledger) -> str:
    """The ledger's database as its owner: the configured one, or the embedded server's."""
    return ledger.config.owner_url or ledger.database_url.replace("ledger_server", "ledger_owner")


def owner_connection(ledger: Ledger) -> Connection:
    """A connection of one's own as the owner, in autocommit mode; the caller closes it."""
    return psycopg.connect(owner_url(ledger), autocommit=True, row_factory=dict_row)


def _plan(connection: Connection, changes: int, sites: int) -> None:
    """Decide, in temporary tables, which change is on which site and by whom."""
    for setting in _SETTINGS:
        connection.execute(setting)
    connection.execute(_SITES)
    ids = [uuid5(NAMESPACE_URL, f"bench:{number}") for number in range(sites)]
    originators = [originator_id(site_id, ORDERS_SETTINGS.fqdn) for site_id in ids]
    connection.execute(
        "INSERT INTO bench_sites SELECT * FROM "
        "unnest(%s::int[], %s::uuid[], %s::uuid[]) AS site (number, site_id, originator_id)",
        (list(range(sites)), ids, originators),
    )
    values = {"changes": changes, "others": sites - 1, "agents": AGENTS, "operator": OPERATOR.id}
    connection.execute(_STEPS, values | {"start": START, "step": STEP})
    connection.execute("ANALYZE bench_sites, bench_steps")


def _record(connection: Connection) -> None:
    """Write the plan into the ledger's tables."""
    values = {
        "partition": PARTITION,
        "kind": ORDERS_SETTINGS.fqdn,
        "type": IdentityType.WIX_USER.value,
        "created_topic": CREATED_TOPIC,
        "changed_topic": CHANGED_TOPIC,
        **_templates(),
    }
    statements: list[LiteralString] = [_INSERT_SITES, _INSERT_ACTORS, _INSERT_EVENTS]
    connection.execute(_NEXT_LEAF)
    connection.execute(_LEAF_CHAIN)
    for statement in [*statements, _INSERT_CURRENT]:
        connection.execute(statement, values)


def _templates() -> dict[str, str]:
    """The stored bytes of a creation and of a change, for PostgreSQL's ``format``.

    Made by the function that makes the real ones, so that they are canonical. The arguments:
    event id, site id, timestamp, value before, value after, actor's reference, commitment.
    """
    common = {
        "event_id": "%1$s",
        "site_id": "%2$s",
        "timestamp": "%3$s",
        "kind": ORDERS_SETTINGS.fqdn,
    }
    defaults = ORDERS_SETTINGS.defaults()
    created = {**common, "settings": defaults, "via": via_facts(Via("library"))}
    changed = {
        **common,
        "actor": {"type": IdentityType.WIX_USER.value, "ref": "%6$s", "commitment": "%7$s"},
        "changes": {"createInvoice": {"from": "<%4$s>", "to": "<%5$s>"}},
        "patch": {"createInvoice": "<%5$s>"},
        "settings": defaults | {"createInvoice": "<%5$s>"},
        "via": via_facts(Via("http", "bench")),
    }
    return {"created": _template(created), "changed": _template(changed)}


def _template(facts: Mapping[str, Any]) -> str:
    """The canonical text; what stands in angle brackets is no text there but a bare value."""
    return canonical_bytes(facts).decode().replace('"<', "").replace('>"', "")


def _loaded(connection: Connection, changes: int) -> Loaded:
    """Change 1 is never on the hot site; 20 is there by its owner and 40 by an agent."""
    rows = connection.execute(
        "SELECT position, site_id, subject_id FROM bench_steps JOIN bench_sites USING (number) "
        "WHERE position IN (1, 20, 40) ORDER BY position"
    ).fetchall()
    plain, by_owner, by_agent = rows
    return Loaded(
        changes,
        hot_site=by_owner["site_id"],
        plain_site=plain["site_id"],
        owner=Identity.wix_user(by_owner["subject_id"]),
        agent=Identity.wix_user(by_agent["subject_id"]),
    )


_SETTINGS: tuple[LiteralString, ...] = (
    "SET LOCAL jit = off",
    "SET LOCAL work_mem = '256MB'",
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL synchronous_commit = off",
)
_SITES = """
CREATE TEMPORARY TABLE bench_sites (
    number integer PRIMARY KEY, site_id uuid NOT NULL, originator_id uuid NOT NULL
) ON COMMIT DROP
"""
_STEPS = """
CREATE TEMPORARY TABLE bench_steps ON COMMIT DROP AS
SELECT position, number, recorded_at, subject_id, version,
       md5('ref:' || subject_id || ':' || number)::uuid AS ref,
       sha256(convert_to('salt:' || subject_id || ':' || number, 'UTF8')) AS salt
FROM (
    SELECT position, number,
        %(start)s::timestamptz + position * %(step)s::interval AS recorded_at,
        CASE position %% 3 WHEN 0 THEN %(operator)s
            WHEN 1 THEN 'agent-' || (hashint8(-position)::bigint & 2147483647) %% %(agents)s
            ELSE 'owner-' || number END AS subject_id,
        row_number() OVER (PARTITION BY number ORDER BY position) AS version
    FROM (
        SELECT position, CASE WHEN position %% 10 = 0 THEN 0
            ELSE 1 + (hashint8(position)::bigint & 2147483647) %% %(others)s END::integer AS number
        FROM generate_series(1::bigint, %(changes)s) AS position
    ) AS placed
) AS step
"""
_INSERT_SITES = """
INSERT INTO sites (site_id, partition) SELECT site_id, %(partition)s FROM bench_sites
"""
_INSERT_ACTORS = """
INSERT INTO actors (ref, partition, site_id, type, subject_id, salt, identity)
SELECT DISTINCT ref, %(partition)s::integer, site_id, %(type)s::text, subject_id, salt,
       md5('identity:' || subject_id)::uuid
FROM bench_steps JOIN bench_sites USING (number) WHERE version > 1
"""
# The same as ledger.canonical.leaf_hash, one event after the other.
_NEXT_LEAF = r"""
CREATE OR REPLACE FUNCTION pg_temp.bench_next_leaf(
    previous bytea, originator_id uuid, version bigint, topic text, state bytea
) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN sha256('\x00'::bytea || convert_to('settings-ledger/1', 'UTF8')
        || uuid_send(originator_id) || int8send(version) || previous
        || sha256(convert_to(topic, 'UTF8')) || sha256(state));
END
$$
"""
_LEAF_CHAIN = r"""
CREATE OR REPLACE AGGREGATE pg_temp.bench_leaf_chain(uuid, bigint, text, bytea) (
    SFUNC = pg_temp.bench_next_leaf, STYPE = bytea,
    INITCOND = '\x0000000000000000000000000000000000000000000000000000000000000000'
)
"""
_INSERT_EVENTS = r"""
INSERT INTO events (
    partition, position, originator_id, originator_version, topic, state, leaf_hash
)
SELECT %(partition)s, position, originator_id, version, topic, state,
       pg_temp.bench_leaf_chain(originator_id, version, topic, state)
           OVER (PARTITION BY originator_id ORDER BY version)
FROM (
    SELECT position, originator_id, version,
        CASE version WHEN 1 THEN %(created_topic)s ELSE %(changed_topic)s END AS topic,
        convert_to(format(
            CASE version WHEN 1 THEN %(created)s ELSE %(changed)s END,
            md5('event:' || position)::uuid, site_id,
            to_char(recorded_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            (version %% 2 = 1)::text, (version %% 2 = 0)::text, ref,
            encode(sha256(salt || convert_to(%(type)s, 'UTF8') || '\x00'::bytea
                || convert_to(subject_id, 'UTF8')), 'hex')
        ), 'UTF8') AS state
    FROM bench_steps JOIN bench_sites USING (number)
) AS event
ORDER BY position
"""
_INSERT_CURRENT = """
INSERT INTO current_settings (
    partition, originator_id, site_id, kind, version, position, leaf_hash, settings,
    created_at, updated_at
)
SELECT partition, originator_id, site_id, %(kind)s, version, position, leaf_hash,
       convert_from(state, 'UTF8')::jsonb -> 'settings', first_at, last_at
FROM (
    SELECT number, max(version) AS version, max(position) AS position,
           min(recorded_at) AS first_at, max(recorded_at) AS last_at
    FROM bench_steps GROUP BY number
) AS standing
JOIN bench_sites USING (number)
JOIN events USING (originator_id, position)
WHERE partition = %(partition)s
"""
