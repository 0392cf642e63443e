"""Questions to the history as SQL: each begins at the index that narrows it most."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from typing import Any
from uuid import UUID

from ledger.history.table import ABSENT, AuditQuestion, SiteQuestion

Query = tuple[str, dict[str, Any]]


# One row by its key, said so that no plan can do anything else, whatever the statistics are.
_MARKED_CHANGES = """
SELECT change.* FROM settings_history_fields AS mark
CROSS JOIN LATERAL (
    SELECT * FROM settings_history AS named
    WHERE named.partition = mark.partition AND named.position = mark.position LIMIT 1
) AS change
"""

_SITE = """
SELECT change.* FROM settings_history AS change
WHERE change.partition = %(partition)s AND change.originator_id = %(originator_id)s
  AND change.version BETWEEN %(from_version)s AND %(to_version)s
"""
_SITE_FIELD = """
WHERE mark.partition = %(partition)s AND mark.originator_id = %(originator_id)s
  AND mark.field = %(field)s AND mark.version BETWEEN %(from_version)s AND %(to_version)s
"""
_SITE_ACTOR = """
SELECT page.* FROM unnest(%(refs)s::uuid[]) AS who (ref)
CROSS JOIN LATERAL (
    SELECT change.* FROM settings_history AS change
    WHERE change.partition = %(partition)s AND change.originator_id = %(originator_id)s
      AND change.version BETWEEN %(from_version)s AND %(to_version)s
      AND change.recorded_at BETWEEN coalesce(%(since)s::timestamptz, '-infinity')
                                 AND coalesce(%(until)s::timestamptz, 'infinity')
"""
_IS_ACTOR = "AND change.actor_ref = who.ref"
_IS_PRINCIPAL = """
AND change.on_behalf_of_ref = who.ref
AND (change.actor_ref IS NULL OR change.actor_ref <> ALL (%(refs)s::uuid[]))
"""
_OF_FIELD = "AND change.fields @> ARRAY[%(field)s::text]"
_LIMIT = "LIMIT %(limit)s::bigint"
_IN_ORDER = {
    ("change", True): "ORDER BY change.version DESC",
    ("change", False): "ORDER BY change.version",
    ("mark", True): "ORDER BY mark.version DESC",
    ("mark", False): "ORDER BY mark.version",
    ("page", True): "ORDER BY page.version DESC",
    ("page", False): "ORDER BY page.version",
    # Times of a site rise with its versions, and these are in the index.
    ("actor", True): "ORDER BY change.recorded_at DESC, change.position DESC",
    ("actor", False): "ORDER BY change.recorded_at, change.position",
}


def site_query(question: SiteQuestion) -> Query:
    """Changes of one site, by version."""
    newest = question.newest_first
    if question.refs is not None:
        field = _OF_FIELD if question.field is not None else ""
        walk = (field, _IN_ORDER["actor", newest], _LIMIT, ") AS page")
        acted, principal = (_text(_SITE_ACTOR, who, *walk) for who in (_IS_ACTOR, _IS_PRINCIPAL))
        both = _text("SELECT page.* FROM (", acted, "UNION ALL", principal, ") AS page")
        query = _text(both, _IN_ORDER["page", newest], _LIMIT)
    elif question.field is not None:
        query = _text(_MARKED_CHANGES, _SITE_FIELD, _IN_ORDER["mark", newest], _LIMIT)
    else:
        query = _text(_SITE, _IN_ORDER["change", newest], _LIMIT)
    values = {name: getattr(question, name) for name in question.__slots__}
    return query, values | {"refs": list(question.refs or ())}


_OF_PARTITIONS = """
SELECT asked.partition, NULL::uuid AS key, asked.head
FROM unnest(%(partitions)s::int[], %(heads)s::bigint[]) AS asked (partition, head)
"""
_OF_KEYS = """
SELECT asked.partition, wanted.key, asked.head
FROM unnest(%(partitions)s::int[], %(heads)s::bigint[]) AS asked (partition, head)
JOIN unnest(%(key_partitions)s::int[], %(keys)s::uuid[]) AS wanted (partition, key)
  USING (partition)
"""
# Each field that ever was touched, by one look-up each: it is a few dozen, whatever the history.
_OF_FIELDS = """
WITH RECURSIVE known AS (
    SELECT asked.partition, asked.head, (
        SELECT min(field) FROM settings_history_fields AS mark
        WHERE mark.partition = asked.partition
    ) AS key
    FROM unnest(%(partitions)s::int[], %(heads)s::bigint[]) AS asked (partition, head)
    UNION ALL
    SELECT known.partition, known.head, (
        SELECT min(field) FROM settings_history_fields AS mark
        WHERE mark.partition = known.partition AND mark.field > known.key
    )
    FROM known WHERE known.key IS NOT NULL
)
SELECT partition, key, head FROM known
WHERE key IS NOT NULL
  AND (%(field)s::text IS NULL OR key = %(field)s OR starts_with(key, %(field)s || '.'))
"""
# The newest n of all keys are among the newest n of the n keys whose newest are the newest: so
# each of many keys is looked at once, and few are walked. The cost follows the number of keys
# and the size of the page, not the length of the history.
_LEADERS = """
SELECT asked.partition, asked.key, asked.head
FROM ({source}) AS asked CROSS JOIN LATERAL ({newest} LIMIT 1) AS newest
ORDER BY newest.recorded_at DESC, newest.partition DESC, newest.position DESC
LIMIT %(limit)s::bigint
"""
_PAGES = """
SELECT page.* FROM ({keys}) AS asked CROSS JOIN LATERAL ({newest} LIMIT %(limit)s::bigint) AS page
"""
_NEWEST_PAGES = """
ORDER BY page.recorded_at DESC, page.partition DESC, page.position DESC LIMIT %(limit)s::bigint
"""
_ONCE = "SELECT DISTINCT ON (page.recorded_at, page.partition, page.position) page.* FROM ("
_CHANGES = """
SELECT change.* FROM settings_history AS change
WHERE change.partition = asked.partition AND change.position <= asked.head
"""
_NEWEST = "ORDER BY change.recorded_at DESC, change.position DESC"
_MARKED = """
WHERE mark.partition = asked.partition AND mark.position <= asked.head AND mark.field = %(field)s
"""
_SET_TO = """
WHERE mark.partition = asked.partition AND mark.position <= asked.head AND mark.field = asked.key
  AND mark.value_hash = jsonb_hash_extended(%(value)s::jsonb, 0)
"""
_NEWEST_MARKS = "ORDER BY mark.recorded_at DESC, mark.position DESC"
_OF_SITE = "AND change.originator_id = asked.key"
# Whoever acted on one's own behalf is found as actor already.
_BY_IDENTITY = "AND change.actor_identity = asked.key"
_FOR_IDENTITY = """
AND change.on_behalf_of_identity = asked.key
AND (change.actor_identity IS NULL OR change.actor_identity <> ALL (%(keys)s::uuid[]))
"""
_BY_REF = "AND change.actor_ref = asked.key"
_FOR_REF = """
AND change.on_behalf_of_ref = asked.key
AND (change.actor_ref IS NULL OR change.actor_ref <> ALL (%(keys)s::uuid[]))
"""
_BEFORE = """
AND (change.recorded_at, change.partition, change.position)
    < (%(before_time)s, %(before_partition)s, %(before_position)s)
"""
_VALUE = """
AND EXISTS (
    SELECT FROM jsonb_each(change.changes) AS leaf
    WHERE leaf.value -> 'to' = %(value)s::jsonb
      AND (%(field)s::text IS NULL OR leaf.key = %(field)s
           OR starts_with(leaf.key, %(field)s || '.'))
)
"""
_ORIGIN = """
AND change.origin IS NOT NULL
AND (change.origin = %(origin)s OR starts_with(change.origin, %(origin)s || ':'))
"""
_REASON = """
AND change.reason_ref IS NOT NULL
AND EXISTS (
    SELECT FROM reasons
    WHERE reasons.partition = change.partition AND reasons.ref = change.reason_ref
      AND strpos(lower(reasons.text), lower(%(text)s)) > 0
)
"""


def audit_query(question: AuditQuestion) -> Query:
    """Changes of many sites, newest first."""
    filters = _filters(question)
    if question.refs is not None:
        pages = _acted(_BY_REF, _FOR_REF, filters)
    elif question.identities is not None:
        pages = _acted(_BY_IDENTITY, _FOR_IDENTITY, filters)
    elif question.originators is not None:
        pages = _pages(_OF_KEYS, _CHANGES, _OF_SITE, *filters, _NEWEST)
    elif question.value is not ABSENT:
        # Two fields may have been set to the same.
        marked = _marked(_OF_FIELDS, _SET_TO, question, filters)
        pages = _text(_ONCE, marked, ") AS page")
    elif question.field is not None:
        pages = _marked(_OF_PARTITIONS, _MARKED, question, filters)
    else:
        walk = _text(_CHANGES, *filters, _NEWEST)
        pages = _PAGES.format(keys=_OF_PARTITIONS, newest=walk)
    return pages + _NEWEST_PAGES, _values(question)


def _acted(by: str, on_behalf_of: str, filters: Sequence[str]) -> str:
    acted, principal = (
        _pages(_OF_KEYS, _CHANGES, who, *filters, _NEWEST) for who in (by, on_behalf_of)
    )
    return _text("SELECT page.* FROM (", acted, "UNION ALL", principal, ") AS page")


def _marked(keys: str, marked: str, question: AuditQuestion, filters: Sequence[str]) -> str:
    bounds = _bounds("mark", question)
    walk = _text(_MARKED_CHANGES, marked, *bounds, *filters, _NEWEST_MARKS)
    return _PAGES.format(keys=keys, newest=walk)


def _pages(source: str, *walk: str) -> str:
    newest = _text(*walk)
    leaders = _LEADERS.format(source=source, newest=newest)
    return _PAGES.format(keys=leaders, newest=newest)


def _text(*parts: str) -> str:
    return "\n".join(parts)


_TIMES = {
    ("change", "since"): "AND change.recorded_at >= %(since)s",
    ("change", "until"): "AND change.recorded_at <= %(until)s",
    ("mark", "since"): "AND mark.recorded_at >= %(since)s",
    ("mark", "until"): "AND mark.recorded_at <= %(until)s",
}


def _bounds(table: str, question: AuditQuestion) -> list[str]:
    """The times as conditions of an index, which the comparison with ``before`` is not."""
    return [_TIMES[table, end] for end, bound in _times(question).items() if bound is not None]


def _times(question: AuditQuestion) -> dict[str, Any]:
    ends = [question.until, question.before.recorded_at if question.before else None]
    return {"since": question.since, "until": min((end for end in ends if end), default=None)}


def _before(question: AuditQuestion) -> str:
    return "" if question.before is None else _BEFORE


def _filters(question: AuditQuestion) -> list[str]:
    filters = _bounds("change", question)
    filters.append(_before(question))
    if question.kinds is not None:
        filters.append("AND change.kind = ANY (%(kinds)s::text[])")
    if question.field is not None:
        filters.append(_OF_FIELD)
    if question.value is not ABSENT:
        filters.append(_VALUE)
    if question.origin is not None:
        filters.append(_ORIGIN)
    if question.text is not None:
        filters.append(_REASON)
    return filters


def _keys(question: AuditQuestion) -> list[tuple[int, UUID]]:
    """Where the walks begin: (partition, key) of who acted, else of the sites."""
    if question.refs is not None:
        return list(question.refs)
    if question.identities is not None:
        return list(product(question.heads, question.identities))
    return list(question.originators or ())


def _values(question: AuditQuestion) -> dict[str, Any]:
    before = question.before
    keys = _keys(question)
    return {
        "partitions": list(question.heads),
        "heads": list(question.heads.values()),
        "key_partitions": [partition for partition, _ in keys],
        "keys": [key for _, key in keys],
        "limit": question.limit,
        **_times(question),
        "before_time": before.recorded_at if before else None,
        "before_partition": before.partition if before else None,
        "before_position": before.position if before else None,
        "kinds": None if question.kinds is None else list(question.kinds),
        "field": question.field,
        "value": None if question.value is ABSENT else json.dumps(question.value),
        "origin": question.origin,
        "text": question.text,
    }
