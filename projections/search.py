"""Questions to the history as SQL: each begins at the index that narrows it most."""

from __future__ import annotations

import json
from typing import Any

from ledger.history.table import ABSENT, AuditQuestion, SiteQuestion

Query = tuple[str, dict[str, Any]]

_SITE = """
SELECT change.* FROM settings_history AS change
WHERE change.partition = %(partition)s AND change.originator_id = %(originator_id)s
  AND change.version BETWEEN %(from_version)s AND %(to_version)s
"""
_SITE_FIELD = """
SELECT change.* FROM settings_history_fields AS mark CROSS JOIN LATERAL (
    SELECT * FROM settings_history AS named
    WHERE named.partition = mark.partition AND named.position = mark.position LIMIT 1
) AS change
WHERE mark.partition = %(partition)s AND mark.originator_id = %(originator_id)s
  AND mark.field = %(field)s AND mark.version BETWEEN %(from_version)s AND %(to_version)s
"""
_SITE_ACTORS = """
  AND (change.actor_ref = ANY (%(refs)s::uuid[]) OR change.on_behalf_of_ref = ANY (%(refs)s::uuid[]))
"""


def site_query(question: SiteQuestion) -> Query:
    """Changes of one site, by version."""
    parts = [_SITE if question.field is None else _SITE_FIELD]
    if question.refs is not None:
        parts.append(_SITE_ACTORS)
    ordered_by = "change.version" if question.field is None else "mark.version"
    parts += ["ORDER BY", ordered_by, "DESC" if question.newest_first else "ASC"]
    parts.append("LIMIT %(limit)s::bigint")
    values = {
        "partition": question.partition,
        "originator_id": question.originator_id,
        "from_version": question.from_version,
        "to_version": question.to_version,
        "field": question.field,
        "refs": None if question.refs is None else list(question.refs),
        "limit": question.limit,
    }
    return " ".join(parts), values


# One short walk along an index per key, newest first, and the newest of all that they find:
# the cost follows the number of keys and the size of the page, not the length of the history.
_EACH = """
SELECT page.*
FROM unnest(%(partitions)s::int[], %(keys)s::uuid[], %(heads)s::bigint[])
    AS wanted (partition, key, head)
CROSS JOIN LATERAL (
"""
_EACH_END = ") AS page"
_CHANGES = """
SELECT change.* FROM settings_history AS change
WHERE change.partition = wanted.partition AND change.position <= wanted.head
"""
_MARKS = """
SELECT change.* FROM settings_history_fields AS mark CROSS JOIN LATERAL (
    SELECT * FROM settings_history AS named
    WHERE named.partition = mark.partition AND named.position = mark.position LIMIT 1
) AS change
WHERE mark.partition = wanted.partition AND mark.position <= wanted.head
  AND mark.field = %(field)s
"""
_NEWEST = "ORDER BY change.recorded_at DESC, change.position DESC LIMIT %(limit)s::bigint"
_NEWEST_MARKS = "ORDER BY mark.recorded_at DESC, mark.position DESC LIMIT %(limit)s::bigint"
_NEWEST_PAGES = """
ORDER BY page.recorded_at DESC, page.partition DESC, page.position DESC LIMIT %(limit)s::bigint
"""
_OF_SITE = "AND change.originator_id = wanted.key"
_BY_ACTOR = "AND change.actor_ref = wanted.key"
# Whoever acted on one's own behalf was found as actor already.
_FOR_PRINCIPAL = """
AND change.on_behalf_of_ref = wanted.key
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
_TEXT = """
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
        keyed = [(_BY_ACTOR, _NEWEST), (_FOR_PRINCIPAL, _NEWEST)]
        each = [_each(_CHANGES, key, *filters, newest) for key, newest in keyed]
        pages = " ".join(("SELECT page.* FROM (", each[0], "UNION ALL", each[1], ") AS page"))
    elif question.originators is not None:
        pages = _each(_CHANGES, _OF_SITE, *filters, _NEWEST)
    elif question.field is not None:
        pages = _each(_MARKS, *_bounds("mark", question), *filters, _NEWEST_MARKS)
    else:
        pages = _each(_CHANGES, *filters, _NEWEST)
    return pages + _NEWEST_PAGES, _values(question)


def _each(*parts: str) -> str:
    return " ".join((_EACH, *parts, _EACH_END))


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


def _filters(question: AuditQuestion) -> list[str]:
    filters = _bounds("change", question)
    if question.before is not None:
        filters.append(_BEFORE)
    if question.refs is not None and question.originators is not None:
        filters.append("AND change.originator_id = ANY (%(originators)s::uuid[])")
    if question.kinds is not None:
        filters.append("AND change.kind = ANY (%(kinds)s::text[])")
    if question.field is not None:
        filters.append("AND change.fields @> ARRAY[%(field)s::text]")
    if question.value is not ABSENT:
        filters.append(_VALUE)
    if question.origin is not None:
        filters.append(_ORIGIN)
    if question.text is not None:
        filters.append(_TEXT)
    return filters


def _values(question: AuditQuestion) -> dict[str, Any]:
    keys = question.refs if question.refs is not None else question.originators
    if keys is None:
        partitions: list[int] = list(question.heads)
        wanted: list[Any] = [None] * len(partitions)
    else:
        partitions = [partition for partition, _ in keys if partition in question.heads]
        wanted = [key for partition, key in keys if partition in question.heads]
    before = question.before
    return {
        "partitions": partitions,
        "keys": wanted,
        "heads": [question.heads[partition] for partition in partitions],
        "limit": question.limit,
        **_times(question),
        "before_time": before.recorded_at if before else None,
        "before_partition": before.partition if before else None,
        "before_position": before.position if before else None,
        "originators": [key for _, key in question.originators or ()],
        "kinds": None if question.kinds is None else list(question.kinds),
        "field": question.field,
        "value": None if question.value is ABSENT else json.dumps(question.value),
        "origin": question.origin,
        "text": question.text,
    }
