"""What the log says, read with plain SQL and checked without the ledger's own code."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import psycopg
from psycopg.rows import namedtuple_row

from faults.processes import Journal

DEFAULTS = {
    "createInvoice": False,
    "inventoryUpdateTrigger": "ON_ORDER_PLACED",
    "emailNotifications": {"orderPlaced": True, "orderShipped": True, "pickupReady": True},
}


@dataclass
class Evidence:
    """One partition of a log that was found sound."""

    events: list[Any] = field(default_factory=list)
    settings: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    versions: dict[UUID, int] = field(default_factory=dict)
    tags: Counter[str] = field(default_factory=Counter)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """The stored JSON of every event, in the log's order."""
        return [json.loads(event.state) for event in self.events]


def examine(url: str, partition: int = 0) -> Evidence:
    """Read and check a partition; fails at the first thing that is not as it must be.

    Dense positions and versions, the chain of leaves, canonical bytes, times that move on, the
    fold of the patches equal to each event's own settings and to the current ones at the end.
    """
    evidence = Evidence()
    leaves: dict[UUID, bytes] = {}
    times: dict[UUID, str] = {}
    with psycopg.connect(url, row_factory=namedtuple_row) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        rows = connection.execute(
            "SELECT * FROM events WHERE partition = %s ORDER BY position", (partition,)
        ).fetchall()
        current = connection.execute(
            "SELECT * FROM current_settings WHERE partition = %s", (partition,)
        ).fetchall()
    for place, event in enumerate(rows, start=1):
        assert event.position == place
        facts = json.loads(event.state)
        site = event.originator_id
        assert site == uuid5(UUID(facts["site_id"]), facts["kind"])
        assert event.originator_version == evidence.versions.get(site, 0) + 1
        version, before = event.originator_version, leaves.get(site, bytes(32))
        assert event.leaf_hash == leaf(site, version, before, event.topic, event.state)
        assert event.state == _canonical(facts)
        assert facts["timestamp"] > times.get(site, "")
        evidence.settings[site] = _fold(evidence.settings.get(site), facts)
        assert evidence.settings[site] == facts["settings"]
        evidence.versions[site] = event.originator_version
        leaves[site], times[site] = event.leaf_hash, facts["timestamp"]
        if "origin" in facts:
            evidence.tags[facts["origin"]] += 1
            evidence.places[facts["origin"]] = (event.originator_version, event.position)
    evidence.events = rows
    heads = {row.originator_id: (row.settings, row.version, row.leaf_hash) for row in current}
    assert heads == {
        site: (settings, evidence.versions[site], leaves[site])
        for site, settings in evidence.settings.items()
    }
    return evidence


def assert_answers_hold(evidence: Evidence, journal: Journal) -> None:
    """Every acknowledged change is in the log once, where and as its caller was told."""
    facts = evidence.facts
    for tag, (version, position, settings) in journal.acknowledged.items():
        assert evidence.tags[tag] == 1
        assert evidence.places[tag] == (version, position)
        assert facts[position - 1]["settings"] == settings


def leaf(originator: UUID, version: int, previous: bytes, topic: str, state: bytes) -> bytes:
    """The hash that binds an event to the one before it, as the design spells it out."""
    return hashlib.sha256(
        b"\x00settings-ledger/1"
        + originator.bytes
        + version.to_bytes(8, "big")
        + previous
        + hashlib.sha256(topic.encode()).digest()
        + hashlib.sha256(state).digest()
    ).digest()


def _canonical(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _fold(before: dict[str, Any] | None, facts: dict[str, Any]) -> dict[str, Any]:
    if before is None:
        return facts["settings"]
    after = copy.deepcopy(before)
    _lay_over(after, facts["patch"], DEFAULTS)
    return after


def _lay_over(settings: dict[str, Any], patch: dict[str, Any], defaults: dict[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            settings[name] = copy.deepcopy(defaults[name])
        elif isinstance(value, dict):
            _lay_over(settings[name], value, defaults[name])
        else:
            settings[name] = value
