"""JSON schemas of bodies, made from a kind's pydantic model. Pure."""

from __future__ import annotations

from typing import Any

from ledger.settings import READ_ONLY_FIELDS, SettingsKind

ENTITY_TAGS = r'^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$'

_VIOLATION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "field": {"type": "string", "description": "Dotted path, wrapper included."},
        "description": {"type": "string"},
        "violatedRule": {"type": "string", "examples": ["INVALID_ENUM_VALUE", "FORMAT"]},
        "data": {"type": "object"},
    },
    "required": ["field", "description", "violatedRule"],
}
_APPLICATION_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "examples": ["PERMISSION_DENIED"]},
        "description": {"type": "string"},
        "data": {"type": "object"},
    },
    "required": ["code", "description"],
}
ERROR: dict[str, Any] = {
    "title": "Error",
    "type": "object",
    "properties": {
        "message": {"type": "string"},
        "details": {
            "type": "object",
            "properties": {
                "validationError": {
                    "type": "object",
                    "properties": {"fieldViolations": {"type": "array", "items": _VIOLATION}},
                    "required": ["fieldViolations"],
                },
                "applicationError": _APPLICATION_ERROR,
            },
            "additionalProperties": False,
        },
    },
    "required": ["message", "details"],
    "additionalProperties": False,
}

OAUTH_ERROR: dict[str, Any] = {
    "title": "OAuthError",
    "description": "The usual body, and beside it what OAuth clients look for (RFC 6749, 5.2).",
    "type": "object",
    "properties": {
        **ERROR["properties"],
        "error": {
            "enum": [
                "invalid_request",
                "invalid_client",
                "invalid_grant",
                "unsupported_grant_type",
            ]
        },
        "error_description": {"type": "string"},
    },
    "required": [*ERROR["required"], "error", "error_description"],
    "additionalProperties": False,
}


def reply_schema(kind: SettingsKind) -> dict[str, Any]:
    """The body of a reply: every field, but for those left out at their default."""
    settings = _settings_schema(kind)
    dates = {
        name: {"type": "string", "format": "date-time", "readOnly": True}
        for name in READ_ONLY_FIELDS
    }
    settings["properties"] |= dates
    always = (kind.defaults().keys() - kind.hidden_at_default) | dates.keys()
    settings["required"] = [name for name in settings["properties"] if name in always]
    return _wrapped(kind, settings)


def patch_schema(kind: SettingsKind) -> dict[str, Any]:
    """The body of a PATCH: any of the fields or null, and read-only ones, which are ignored."""
    settings = _partial(_settings_schema(kind))
    settings["properties"] |= {
        name: {"description": "Accepted and ignored: read-only."} for name in READ_ONLY_FIELDS
    }
    return _wrapped(kind, settings)


def _wrapped(kind: SettingsKind, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {kind.wrapper: settings},
        "required": [kind.wrapper],
        "additionalProperties": False,
    }


def _settings_schema(kind: SettingsKind) -> dict[str, Any]:
    schema = kind.model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    inlined = _inlined(schema, definitions)
    return dict(inlined)


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """Copy a schema with every reference replaced by what it names: bodies are small trees."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    copied = {key: _inlined(item, definitions) for key, item in node.items() if key != "$ref"}
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return _inlined(definitions[name], definitions) | copied
    return copied


def _partial(schema: dict[str, Any]) -> dict[str, Any]:
    """Copy an object's schema with every field optional and nullable, at every depth."""
    nullable: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        inner = _partial(field) if field.get("type") == "object" else dict(field)
        kept = {key: inner.pop(key) for key in ("description", "title") if key in inner}
        inner.pop("default", None)
        nullable[name] = {"anyOf": [inner, {"type": "null"}], **kept}
    partial = {key: value for key, value in schema.items() if key not in {"default", "required"}}
    return partial | {"properties": nullable}
