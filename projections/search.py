"""Questions to the history as SQL: each begins at the index that narrows it most."""

from __future__ import annotations

import json
from typing import Any

from ledger.history.table import ABSENT, AuditQuestion, SiteQuestion

Query = tuple[str, dict[str, Any]]

# One row by its key, said so that no plan can do anything else, whatever the statistics are.
_NAMED_BY_MARK = """
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
        marks = "SELECT change.* FROM settings_history_fields AS mark"
        query = _text(marks, _NAMED_BY_MARK, _SITE_FIELD, _IN_ORDER["mark", newest], _LIMIT)
    else:
        query = _text(_SITE, _IN_ORDER["change", newest], _LIMIT)
    values = {name: getattr(question, name) for name in question.__slots__}
    return query, values | {"refs": list(question.refs or ())}


_OF_PARTITIONS = """
SELECT asked.partition, NULL::uuid AS key, asked.head
FROM unnest(%(partitions)s::int[], %(heads)s::bigint[]) AS asked (partition, head)
"""
_OF_ORIGINATORS = """
SELECT asked.partition, site.key, asked.head
FROM unnest(%(partitions)s::int[], %(heads)s::bigint[]) AS asked (partition, head)
JOIN unnest(%(key_partitions)s::int[], %(keys)s::uuid[]) AS site (partition, key) USING (partition)
"""
_OF_ACTORS = """
SELECT asked.partition, actors.ref AS key, asked.head
FROM unnest(%(partitions)s::int[], %(heads)s::bigint[]) AS asked (partition, head)
JOIN actors USING (partition)
WHERE actors.subject_id = %(subject_id)s
  AND (%(subject_type)s::text IS NULL OR actors.type = %(subject_type)s)
  AND (%(sites)s::uuid[] IS NULL OR actors.site_id = ANY (%(sites)s::uuid[]))
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
_CHANGES = """
SELECT change.* FROM settings_history AS change
WHERE change.partition = asked.partition AND change.position <= asked.head
"""
_NEWEST = "ORDER BY change.recorded_at DESC, change.position DESC"
_MARKED = """
WHERE mark.partition = asked.partition AND mark.position <= asked.head AND mark.field = %(field)s
"""
_NEWEST_MARKS = "ORDER BY mark.recorded_at DESC, mark.position DESC"
_OF_SITE = "AND change.originator_id = asked.key"
_BY_ACTOR = "AND change.actor_ref = asked.key"
# Whoever acted on one's own behalf was found as actor already.
_FOR_PRINCIPAL = """
AND change.on_behalf_of_ref = asked.key
AND NOT EXISTS (
    SELECT FROM actors
    WHERE actors.partition = change.partition AND actors.ref = change.actor_ref
      AND actors.subject_id = %(subject_id)s
      AND (%(subject_type)s::text IS NULL OR actors.type = %(subject_type)s)
)
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
    if question.subject is not None:
        acted = _pages(_OF_ACTORS, _CHANGES, _BY_ACTOR, *filters, _NEWEST)
        principal = _pages(_OF_ACTORS, _CHANGES, _FOR_PRINCIPAL, *filters, _NEWEST)
        pages = _text("SELECT page.* FROM (", acted, "UNION ALL", principal, ") AS page")
    elif question.originators is not None:
        pages = _pages(_OF_ORIGINATORS, _CHANGES, _OF_SITE, *filters, _NEWEST)
    elif question.field is not None:
        marks = _text("SELECT change.* FROM settings_history_fields AS mark", _NAMED_BY_MARK)
        walk = _text(marks, _MARKED, *_bounds("mark", question), *filters, _NEWEST_MARKS)
        pages = _PAGES.format(keys=_OF_PARTITIONS, newest=walk)
    else:
        walk = _text(_CHANGES, *filters, _NEWEST)
        pages = _PAGES.format(keys=_OF_PARTITIONS, newest=walk)
    return pages + _NEWEST_PAGES, _values(question)


MANY_SITES = 1000
WINDOW = 2000
COUNT_REFS = """
SELECT count(*) AS refs FROM (
    SELECT FROM actors
    WHERE subject_id = %(subject_id)s
      AND (%(subject_type)s::text IS NULL OR type = %(subject_type)s)
    LIMIT %(many)s
) AS actor
"""
_RECENT = "SELECT change.* FROM ({pages}) AS change WHERE EXISTS ({acted})"
# OFFSET 0: who acted is looked up by its ref, never in all that somebody is called by.
_ACTED = """
SELECT FROM (
    SELECT subject_id, type FROM actors
    WHERE actors.partition = change.partition
      AND actors.ref IN (change.actor_ref, change.on_behalf_of_ref)
    OFFSET 0
) AS actor
WHERE actor.subject_id = %(subject_id)s
  AND (%(subject_type)s::text IS NULL OR actor.type = %(subject_type)s)
"""
_NEWEST_CHANGES = """
ORDER BY change.recorded_at DESC, change.partition DESC, change.position DESC
LIMIT %(limit)s::bigint
"""


def recent_query(question: AuditQuestion) -> Query:
    """The same as ``audit_query`` among the newest WINDOW changes only.

    Where that fills a page it is the page: whoever acts on thousands of sites has mostly done
    something lately, and is found without looking at each of the sites.
    """
    walk = _text(_CHANGES, *_bounds("change", question), _before(question), _NEWEST)
    newest = (_PAGES.format(keys=_OF_PARTITIONS, newest=walk) + _NEWEST_PAGES).replace(
        "%(limit)s", "%(window)s"
    )
    recent = _RECENT.format(pages=newest, acted=_ACTED)
    query = _text(recent, *_filters(question), _NEWEST_CHANGES)
    return query, _values(question) | {"window": WINDOW}


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
    if question.subject is not None and question.originators is not None:
        filters.append("AND change.originator_id = ANY (%(keys)s::uuid[])")
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


def _values(question: AuditQuestion) -> dict[str, Any]:
    subject_id, subject_type = question.subject or (None, None)
    before = question.before
    originators = question.originators or ()
    return {
        "partitions": list(question.heads),
        "heads": list(question.heads.values()),
        "key_partitions": [partition for partition, _ in originators],
        "keys": [key for _, key in originators],
        "subject_id": subject_id,
        "subject_type": subject_type,
        "sites": None if question.sites is None else list(question.sites),
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
