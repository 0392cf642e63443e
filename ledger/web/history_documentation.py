"""What ``/openapi.json`` says about history, undoing and the pull feed, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.actors import LONGEST_REASON
from ledger.settings import SettingsKind
from ledger.web.documentation import (
    CONSISTENT_PARAMETER,
    CONSISTENT_REPLY,
    ETAG,
    HEADERS,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    REASON,
    SAMPLE_TIME,
    SITE,
    failures,
    reference,
    sample_patch,
    schema_name,
    title,
)

STAMP = "2024-07-04T15:10:46.070000Z"
_TEXT = {"type": "string"}
_WHEN = "A version (v12), a time with its zone, or so long ago (2 days ago)"
_NUMBER = {"type": "integer", "minimum": 1}
_STANDING = {
    "version": {"type": "integer", "minimum": 0},
    "position": {"type": ["integer", "null"], "minimum": 1},
}
_IDENTITY = {
    "type": "object",
    "properties": {"type": _TEXT, "id": _TEXT},
    "required": ["type", "id"],
}
_CHANGES = {
    "type": "object",
    "description": "Dotted paths; an end is absent where there was or is no value.",
    "additionalProperties": {
        "type": "object",
        "properties": {"from": {}, "to": {}},
        "additionalProperties": False,
    },
}
_OWED = {
    "timestamp": {"type": "string", "format": "date-time"},
    "actor": {"anyOf": [_IDENTITY, {"type": "null"}]},
    "on_behalf_of": _IDENTITY,
    "reason": _TEXT,
    "origin": _TEXT,
}
_CHANGE = {
    "type": "object",
    "properties": {"version": _NUMBER, "position": _NUMBER, **_OWED, "changes": _CHANGES},
    "required": ["version", "position", "timestamp", "actor", "changes"],
}
_PAGING = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "cursors": {
            "type": "object",
            "properties": {"next": {"type": ["string", "null"]}},
            "required": ["next"],
        },
        "hasNext": {"type": "boolean"},
    },
    "required": ["count", "cursors", "hasNext"],
}


def describe_history(kind: SettingsKind, operation: str) -> dict[str, Any]:
    """What to tell about a GET of a kind's past, as arguments of ``add_api_route``."""
    told: Mapping[str, tuple[str, list[dict[str, Any]], dict[str, Any], Any]] = {
        "changes": ("List changes", _CHANGES_PARAMETERS, _changes_schema(), _changes_sample(kind)),
        "as-of": ("Get past", _AS_OF_PARAMETERS, _snapshot_schema(kind), _snapshot_sample(kind)),
        "diff": ("Compare", _DIFF_PARAMETERS, _diff_schema(), _diff_sample(kind)),
        "blame": ("Blame", [_query("at", _WHEN, "v12")], _blame_schema(), _blame_sample(kind)),
    }
    verb, parameters, schema, sample = told[operation]
    return {
        "summary": f"{verb}: {title(kind)}",
        "description": "Needs the permission LEDGER.READ_HISTORY. The same question with an upper "
        "bound is answered the same for ever. Before the first change the settings are the "
        "defaults, at version 0 and no position.",
        "operation_id": f"{operation.replace('-', '')}{schema_name(kind)}",
        "tags": [f"{title(kind)}: history"],
        "responses": _reply(schema, sample) | failures(400, 401, 403, 404, 429, 500, 503),
        "openapi_extra": {
            "parameters": [SITE, CONSISTENT_PARAMETER, *parameters],
            "security": [{"credential": []}],
        },
    }


def describe_undo(kind: SettingsKind, operation: str) -> dict[str, Any]:
    """What to tell about ``restore`` and ``revert``, as arguments of ``add_api_route``."""
    what = {
        "restore": "Brings back the settings of a version, or of a time, by a new change.",
        "revert": "Undoes what one change did, by a new change. Fields changed since stay as they "
        "are and are listed; where that is all of them, nothing is recorded and version is null.",
    }
    sample = {"version": 3, "reason": "The import was wrong", "dryRun": True}
    return {
        "summary": f"{operation.capitalize()}: {title(kind)}",
        "description": f"{what[operation]} Needs the permission {kind.update_permission}.",
        "operation_id": f"{operation}{schema_name(kind)}",
        "tags": [f"{title(kind)}: history"],
        "responses": _reply(_undone_schema(), _undone_sample(kind), ETAG | CONSISTENT_REPLY)
        | failures(400, 401, 403, 404, 409, 412, 413, 415, 429, 500, 503, 504),
        "openapi_extra": {
            "parameters": [SITE, IF_MATCH, IDEMPOTENCY_KEY, REASON, CONSISTENT_PARAMETER],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": _undo_schema(operation), "example": sample}
                },
            },
            "security": [{"credential": []}],
        },
    }


def describe_events() -> dict[str, Any]:
    """What to tell about ``/ledger/v1/events``."""
    event = {
        "type": "object",
        "description": "The claim `data` of the webhook: `data` and `identity` are JSON texts.",
        "properties": {
            **dict.fromkeys(("data", "instanceId", "eventType", "identity"), _TEXT),
            "accountInfo": {"type": "object"},
        },
        "required": ["data", "instanceId", "eventType", "identity", "accountInfo"],
    }
    schema = _object({"events": {"type": "array", "items": event}, "pagingMetadata": _PAGING})
    sample = {
        "events": [],
        "pagingMetadata": {"count": 0, "cursors": {"next": "12"}, "hasNext": False},
    }
    whole = {"type": "integer", "minimum": 0}
    return {
        "summary": "Pull events",
        "description": "The app's webhook events on the site of its instance, since it was "
        "installed there, in order. Only apps may ask. `cursors.next` is where to go on, also "
        "when there is nothing yet.",
        "operation_id": "pullEvents",
        "tags": ["events"],
        "responses": _reply(schema, sample) | failures(400, 401, 403, 404, 428, 429, 500, 503),
        "openapi_extra": {
            "parameters": [
                SITE,
                CONSISTENT_PARAMETER,
                _query("after", "A position: `cursors.next` of the page before", 12, whole),
                _query("limit", "How many at most", 50, _NUMBER | {"maximum": 1000}),
                _query(
                    "wait", "Seconds to wait for an event", 20, {"type": "integer"} | _WAIT_BOUNDS
                ),
            ],
            "security": [{"credential": []}],
        },
    }


_WAIT_BOUNDS = {"minimum": 0, "maximum": 30}


def _query(name: str, description: str, example: Any, schema: Any = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": f"{description}.",
        "schema": schema or _TEXT | {"minLength": 1},
        "example": example,
    }


_VERSION_BOUNDS = _NUMBER | {"maximum": 10**18 - 1}
_FROM_ZERO = _VERSION_BOUNDS | {"minimum": 0}
_CHANGES_PARAMETERS = [
    _query("since", f"Not before. {_WHEN.replace('A version (v12), a', 'A')}", "2 days ago"),
    _query("until", "Not after; as since", "2024-07-04T15:10:46.070Z"),
    _query("field", "A field's path, or of what encloses it", "createInvoice"),
    _query("by", "The id of whoever acted, or on whose behalf", "0d3f6a2e-8dfe-41ee-b9d1-0242ac12"),
    _query("fromVersion", "Not before this version", 1, _VERSION_BOUNDS),
    _query("toVersion", "Not after this version", 12, _VERSION_BOUNDS),
    _query("order", "Which come first", "newest", {"enum": ["newest", "oldest"]}),
    _query("limit", "How many at most", 50, _NUMBER | {"maximum": 1000}),
    _query("cursor", "`cursors.next` of the page before; with the same parameters", "WyJh"),
]
_AS_OF_PARAMETERS = [
    _query("at", f"{_WHEN}; without it, now", "2024-07-04T15:10:46.070Z"),
    _query("version", "The version, instead; 0: before any change", 12, _FROM_ZERO),
]
_DIFF_PARAMETERS = [
    {**_query("from", _WHEN, "v3"), "required": True},
    _query("to", f"{_WHEN}; without it, now", "v12"),
]


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _reply(
    schema: dict[str, Any], sample: Any, headers: Mapping[str, Any] | None = None
) -> dict[int | str, Any]:
    content = {"application/json": {"schema": schema, "example": sample}}
    return {
        200: {"description": "Done.", "content": content, "headers": {**HEADERS, **(headers or {})}}
    }


def _changes_schema() -> dict[str, Any]:
    return _object({"changes": {"type": "array", "items": _CHANGE}, "pagingMetadata": _PAGING})


def _snapshot_schema(kind: SettingsKind) -> dict[str, Any]:
    settings = reference(f"{schema_name(kind)}/properties/{kind.wrapper}")
    stamp = _OWED["timestamp"]
    return _object({kind.wrapper: settings, **_STANDING, "timestamp": stamp})


def _diff_schema() -> dict[str, Any]:
    end = _object(_STANDING)
    return _object({"changes": _CHANGES, "from": end, "to": end})


def _blame_schema() -> dict[str, Any]:
    version = _STANDING["version"] | {"description": "0: a default, which nobody has set."}
    owed = _object({"value": {}, "version": version, **_OWED}, ("on_behalf_of", "reason", "origin"))
    return {"type": "object", "additionalProperties": owed}


def _undo_schema(operation: str) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    said = "Needed, here or in X-Ledger-Reason, unless dryRun is true."
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "version": _VERSION_BOUNDS if operation == "revert" else _FROM_ZERO,
            "reason": text | {"maxLength": LONGEST_REASON, "description": said},
            "dryRun": {"type": "boolean", "description": "Tell, and record nothing."},
        },
        "additionalProperties": False,
    }
    if operation == "revert":
        return schema | {"required": ["version"]}
    schema["properties"]["at"] = text | {"description": f"{_WHEN}."}
    return schema | {"oneOf": [{"required": ["version"]}, {"required": ["at"]}]}


def _undone_schema() -> dict[str, Any]:
    conflict = _object({"expected": {}, "found": {}, "version": _NUMBER}, ("expected", "found"))
    return _object(
        {
            "version": {"type": ["integer", "null"], "description": "Null: nothing was recorded."},
            "changes": _CHANGES,
            "conflicts": {"type": "object", "additionalProperties": conflict},
        },
        ("conflicts",),
    )


def _difference(kind: SettingsKind) -> dict[str, Any]:
    defaults = kind.defaults()
    return {name: {"from": defaults[name], "to": new} for name, new in sample_patch(kind).items()}


def _changes_sample(kind: SettingsKind) -> dict[str, Any]:
    actor = {"type": "WIX_USER", "id": "0d3f6a2e-8dfe-41ee-b9d1-0242ac120002"}
    change = {"version": 12, "position": 345, "timestamp": STAMP, "actor": actor}
    change |= {"changes": _difference(kind), "reason": "New law"}
    paging = {"count": 1, "cursors": {"next": None}, "hasNext": False}
    return {"changes": [change], "pagingMetadata": paging}


def _snapshot_sample(kind: SettingsKind) -> dict[str, Any]:
    settings = kind.reply(kind.defaults(), SAMPLE_TIME, SAMPLE_TIME)
    return {kind.wrapper: settings, "version": 12, "position": 345, "timestamp": STAMP}


def _diff_sample(kind: SettingsKind) -> dict[str, Any]:
    ends = {"from": {"version": 3, "position": 40}, "to": {"version": 12, "position": 345}}
    return {"changes": _difference(kind), **ends}


def _blame_sample(kind: SettingsKind) -> dict[str, Any]:
    return {
        name: {"value": ends["to"], "version": 12, "timestamp": STAMP, "actor": None}
        for name, ends in _difference(kind).items()
    }


def _undone_sample(kind: SettingsKind) -> dict[str, Any]:
    return {"version": 13, "changes": _difference(kind)}
