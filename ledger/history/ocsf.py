"""A change as an event of the Open Cybersecurity Schema Framework, 1.3.0.

Class Entity Management (3004, category Identity & Access Management): "activity … on a managed
entity", with who acted, the entity before and after, and a comment about why. API Activity (6003)
would tell of the call instead of the settings, and changes also come from the command line.
What has no attribute there stands in ``unmapped``.
"""

from __future__ import annotations

from typing import Any

from ledger import timestamps
from ledger.history.changes import Change, identity_json
from ledger.history.snapshots import apply_changes
from ledger.identity import Identity, IdentityType

VERSION = "1.3.0"
CATEGORY, CLASS = 3, 3004
CREATE, UPDATE = 1, 3
INFORMATIONAL, SUCCESS, OTHER = 1, 1, 99
_ACTIVITIES = {CREATE: "Create", UPDATE: "Update"}
_USER_TYPES = {IdentityType.WIX_USER: 1, IdentityType.MEMBER: 1}


def event(change: Change) -> dict[str, Any]:
    """The change as one OCSF event; times in milliseconds since 1970."""
    activity = CREATE if change.version == 1 else UPDATE
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
        "time": int(change.timestamp.timestamp() * 1000),
        "metadata": {
            "version": VERSION,
            "uid": str(change.event_id),
            "sequence": change.position,
            "original_time": timestamps.stored(change.timestamp),
            "log_name": f"partition {change.partition}",
            "tenant_uid": str(change.site_id),
            "product": {"name": "settings-ledger", "vendor_name": "settings-ledger"},
        },
    }
    if change.actor is not None:
        told["actor"] = _actor(change.actor)
    after = _entity(change, change.settings, change.version)
    if activity == CREATE:
        told["entity"] = after
    else:
        before = apply_changes(change.settings, change.changes, back=True)
        told["entity"] = _entity(change, before, change.version - 1)
        told["entity_result"] = after
    if change.reason is not None:
        told["comment"] = change.reason
    return told | {"unmapped": _unmapped(change)}


def _actor(actor: Identity) -> dict[str, Any]:
    if actor.type is IdentityType.APP:
        return {"app_uid": actor.id}
    type_id = _USER_TYPES.get(actor.type, OTHER)
    return {"user": {"uid": actor.id, "type_id": type_id, "type": str(actor.type)}}


def _entity(change: Change, settings: dict[str, Any], version: int) -> dict[str, Any]:
    return {
        "uid": str(change.site_id),
        "name": change.kind,
        "type_id": OTHER,
        "type": change.kind,
        "version": str(version),
        "data": settings,
    }


def _unmapped(change: Change) -> dict[str, Any]:
    told: dict[str, Any] = {"changes": change.changes, "channel": change.via.channel}
    optional = {
        "on_behalf_of": identity_json(change.on_behalf_of),
        "origin": change.origin,
        "credential": change.via.credential,
        "request_id": change.request_id,
    }
    return told | {name: value for name, value in optional.items() if value is not None}
