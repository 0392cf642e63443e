"""What ``/openapi.json`` and ``/docs`` say, made from each kind's declaration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ledger.actors import LONGEST_REASON
from ledger.consistency import HEADER as CONSISTENT
from ledger.settings import SettingsKind
from ledger.web import schemas
from ledger.web.headers import LONGEST_IDEMPOTENCY_KEY
from ledger.web.request_id import HEADER as REQUEST_ID

DESCRIPTION = """\
A site's settings, as Wix's API has them, with every change remembered.

Send an API key, an app instance's access token (`POST /oauth2/token`) or a token of the
configured identity provider in `Authorization`, bare or after `Bearer`. Each belongs to one
site; `wix-site-id` may name that site.
Every failure has the body `{"message", "details"}`, where `details` holds a
`validationError` or an `applicationError`, and is empty for failures of the server.
"""

# The instant of the seeds' samples.
SAMPLE_TIME = datetime(2024, 7, 4, 15, 10, 46, 70_000, tzinfo=UTC)

_FAILURES: Mapping[int, str] = {
    400: "The request is malformed, or the patch broke rules: one violation per field.",
    401: "No credential, or one that does not hold.",
    403: "The credential is for another site, or does not allow this.",
    404: "There is no such site.",
    409: "The Idempotency-Key was used for another request.",
    412: "The settings are at another version than If-Match names.",
    413: "The body is over 64 KiB.",
    415: "The body is not application/json.",
    428: "The app is not installed on the site any more.",
    429: "The key or app instance used up its requests for this minute.",
    500: "The server failed; the log tells why under the reply's request id.",
    503: "The ledger cannot answer; nothing was changed.",
    504: "It is unknown whether the change was recorded: repeat it with the same Idempotency-Key.",
}

SITE: dict[str, Any] = {
    "name": "wix-site-id",
    "in": "header",
    "description": "The site meant; without it the credential's own.",
    "schema": {"type": "string", "format": "uuid"},
}
_IF_NONE_MATCH: dict[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of replies at hand: 304 where one still holds.",
    "schema": {"type": "string", "pattern": schemas.ENTITY_TAGS},
    "example": '"12"',
}
IF_MATCH: dict[str, Any] = {
    "name": "If-Match",
    "in": "header",
    "description": "Change only while the settings have one of these ETags; 412 otherwise.",
    "schema": {"type": "string", "pattern": schemas.ENTITY_TAGS},
    "example": '"12"',
}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Within 24 hours, a request repeated with its key changes nothing again.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_IDEMPOTENCY_KEY,
        "pattern": "^[!-~]+$",
    },
}
REASON: dict[str, Any] = {
    "name": "X-Ledger-Reason",
    "in": "header",
    "description": (
        "Why: kept with the change. UTF-8, percent-encoded or raw; a literal % is %25; at most "
        f"{LONGEST_REASON} characters."
    ),
    "schema": {"type": "string"},
    "example": "Invoices%20are%20mandatory%20from%20July",
}
HEADERS = {
    REQUEST_ID: {
        "description": "This request's id, also in the event that it caused.",
        "schema": {"type": "string", "format": "uuid"},
    }
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
CONSISTENT_REPLY = {
    CONSISTENT: {
        "description": "Send it with later requests: they then see this change. Opaque.",
        "schema": {"type": "string"},
    }
}
CONSISTENT_PARAMETER: dict[str, Any] = {
    "name": CONSISTENT,
    "in": "header",
    "description": "The last one that a reply had; one that is not ours is ignored.",
    "schema": {"type": "string"},
}
ETAG = {
    "ETag": {
        "description": "The settings' version, in quotes.",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    }
}


def version() -> str:
    """The version of the installed package."""
    try:
        return installed_version("settings-ledger")
    except PackageNotFoundError:
        return "0"


def describe_get(kind: SettingsKind) -> dict[str, Any]:
    """What to tell about a kind's GET, as arguments of ``add_api_route``."""
    unchanged = {"description": "The settings are those at hand.", "headers": HEADERS | ETAG}
    return {
        "summary": f"Get {title(kind)}",
        "description": f"Needs the permission {kind.read_permission}.",
        "operation_id": f"get{schema_name(kind)}",
        "tags": [title(kind)],
        "responses": _success(kind, kind.defaults())
        | {304: unchanged}
        | failures(400, 401, 403, 404, 429, 500, 503),
        "openapi_extra": {
            "parameters": [SITE, _IF_NONE_MATCH, CONSISTENT_PARAMETER],
            "security": [{"credential": []}],
        },
    }


def describe_patch(kind: SettingsKind) -> dict[str, Any]:
    """What to tell about a kind's PATCH, as arguments of ``add_api_route``."""
    patch = sample_patch(kind)
    body = {"schema": reference(f"{schema_name(kind)}Update"), "example": {kind.wrapper: patch}}
    return {
        "summary": f"Update {title(kind)}",
        "description": (
            "Fields that are not sent keep their value, objects merge field by field, null resets "
            f"to the default. Needs the permission {kind.update_permission} and the identity of a "
            "Wix user or an app."
        ),
        "operation_id": f"update{schema_name(kind)}",
        "tags": [title(kind)],
        "responses": _success(kind, kind.merge(kind.defaults(), patch), CONSISTENT_REPLY)
        | failures(*(_FAILURES.keys() - {428})),
        "openapi_extra": {
            "parameters": [SITE, IF_MATCH, IDEMPOTENCY_KEY, REASON, CONSISTENT_PARAMETER],
            "requestBody": {"required": True, "content": {"application/json": body}},
            "security": [{"credential": []}],
        },
    }


def describe_health() -> dict[str, Any]:
    """What to tell about ``/healthz``."""
    responses = {200: _status_reply("This process lives.", "ok")}
    return {"summary": "Liveness", "tags": ["health"], "responses": responses}


def describe_readiness() -> dict[str, Any]:
    """What to tell about ``/readyz``."""
    responses = {200: _status_reply("The database answers, its schema is current.", "ready")}
    return {
        "summary": "Readiness",
        "tags": ["health"],
        "responses": responses | failures(503),
    }


def document(app: FastAPI, kinds: Iterable[SettingsKind]) -> None:
    """Make ``/openapi.json`` hold the schemas of these kinds, and how to send a credential."""
    shown = list(kinds)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            components = {"Error": schemas.ERROR, "OAuthError": schemas.OAUTH_ERROR}
            for kind in shown:
                components[schema_name(kind)] = schemas.reply_schema(kind)
                components[f"{schema_name(kind)}Update"] = schemas.patch_schema(kind)
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            made.setdefault("components", {}).setdefault("schemas", {}).update(components)
            credential = {"type": "apiKey", "in": "header", "name": "Authorization"}
            made["components"]["securitySchemes"] = {"credential": credential}
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _success(
    kind: SettingsKind, settings: Mapping[str, Any], headers: Mapping[str, Any] | None = None
) -> dict[int | str, Any]:
    sample = {kind.wrapper: kind.reply(settings, SAMPLE_TIME, SAMPLE_TIME)}
    content = {"schema": reference(schema_name(kind)), "example": sample}
    return {
        200: {
            "description": "The settings.",
            "content": {"application/json": content},
            "headers": {**HEADERS, **ETAG, **(headers or {})},
        }
    }


def failures(*statuses: int) -> dict[int | str, Any]:
    """The failures with these statuses, as a route's ``responses``."""
    content = {"application/json": {"schema": reference("Error")}}
    return {
        status: {
            "description": _FAILURES[status],
            "content": content,
            "headers": HEADERS | (_RETRY_AFTER if status in {429, 503} else {}),
        }
        for status in sorted(statuses)
    }


def _status_reply(description: str, status: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"status": {"const": status}},
        "required": ["status"],
    }
    content = {"application/json": {"schema": schema}}
    return {"description": description, "content": content, "headers": HEADERS}


def sample_patch(kind: SettingsKind) -> dict[str, Any]:
    """The first switch turned over: for orders settings the seed's own sample."""
    for name, value in kind.defaults().items():
        if isinstance(value, bool):
            return {name: not value}
    return {}


def reference(name: str) -> dict[str, str]:
    """A reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def schema_name(kind: SettingsKind) -> str:
    """What the kind's body is called in the document."""
    return kind.wrapper[:1].upper() + kind.wrapper[1:]


def title(kind: SettingsKind) -> str:
    """What people call the kind."""
    return kind.fqdn.rpartition(".")[2].replace("_", " ")
