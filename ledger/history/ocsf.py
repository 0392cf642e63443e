"""A change as an event of the Open Cybersecurity Schema Framework, 1.3.0.

Class Entity Management (3004, category Identity & Access Management): "activity … on a managed
entity", with who acted, the entity before and after, and a comment about why. API Activity (6003)
would tell of the call instead of the settings, and changes also come from the command line.
What has no attribute there stands in ``unmapped``.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from ledger import timestamps
from ledger.history.changes import identity_json
from ledger.history.entries import Entry
from ledger.history.facts import values_in
from ledger.history.snapshots import change_in_place
from ledger.identity import Identity, IdentityType

VERSION = "1.3.0"
CATEGORY, CLASS = 3, 3004
CREATE, UPDATE = 1, 3
INFORMATIONAL, SUCCESS, OTHER = 1, 1, 99
_ACTIVITIES = {CREATE: "Create", UPDATE: "Update"}
_USER_TYPES = {IdentityType.WIX_USER: 1, IdentityType.MEMBER: 1}


def event(entry: Entry) -> dict[str, Any]:
    """A change as one OCSF event; times in milliseconds since 1970."""
    activity = CREATE if entry.version == 1 else UPDATE
    told: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "category_uid": CATEGORY,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS,
        "class_name": "Entity Management",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"Entity Management: {_ACTIVITIES[activity]}",
        "severity_id": INFORMATIONAL,
        "severity": "Informational",
        "status_id": SUCCESS,
        "status": "Success",
        "time": int(timestamps.parse(entry.timestamp).timestamp() * 1000),
        "metadata": {
            "version": VERSION,
            "uid": entry.event_id,
            "sequence": entry.position,
            "original_time": entry.timestamp,
            "log_name": f"partition {entry.partition}",
            "tenant_uid": entry.site_id,
            "product": {"name": "settings-ledger", "vendor_name": "settings-ledger"},
        },
    }
    if entry.actor is not None:
        told["actor"] = _actor(entry.actor)
    after = _entity(entry, entry.settings, entry.version)
    if activity == CREATE:
        told["entity"] = after
    else:
        before = values_in(entry.settings)
        change_in_place(before, values_in(entry.changes), "from")
        told["entity"] = _entity(entry, before, entry.version - 1)
        told["entity_result"] = after
    if entry.reason is not None:
        told["comment"] = entry.reason
    return told | {"unmapped": _unmapped(entry)}


def _actor(actor: Identity) -> dict[str, Any]:
    if actor.type is IdentityType.APP:
        return {"app_uid": actor.id}
    type_id = _USER_TYPES.get(actor.type, OTHER)
    return {"user": {"uid": actor.id, "type_id": type_id, "type": str(actor.type)}}


def _entity(entry: Entry, settings: dict[str, Any] | Raw, version: int) -> dict[str, Any]:
    return {
        "uid": entry.site_id,
        "name": entry.kind,
        "type_id": OTHER,
        "type": entry.kind,
        "version": str(version),
        "data": settings,
    }


def _unmapped(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {"changes": entry.changes, "channel": entry.via.channel}
    optional = {
        "on_behalf_of": identity_json(entry.on_behalf_of),
        "origin": entry.origin,
        "credential": entry.via.credential,
        "request_id": entry.request_id,
    }
    return told | {name: value for name, value in optional.items() if value is not None}
