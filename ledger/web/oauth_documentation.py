"""What ``/openapi.json`` says about tokens and keys."""

from __future__ import annotations

from typing import Any

from ledger.access import LIFETIME
from ledger.web.documentation import HEADERS, failures, reference

_TEXT = {"type": "string"}
_UUID = {"type": "string", "format": "uuid"}


def describe_token() -> dict[str, Any]:
    """What to tell about ``/oauth2/token``."""
    asked = _object(
        {
            "grant_type": {"const": "client_credentials"},
            "client_id": _UUID | {"description": "The app's id."},
            "client_secret": _TEXT | {"description": "The app's secret."},
            "instance_id": _UUID | {"description": "The app's instance on a site."},
        },
        required=["grant_type", "instance_id"],
    )
    given = _object(
        {
            "access_token": _TEXT,
            "token_type": {"const": "Bearer"},
            "expires_in": {"const": LIFETIME, "description": "Seconds."},
        }
    )
    return {
        "summary": "Get an access token",
        "description": (
            "OAuth's client credentials (RFC 6749, section 4.4). Client id and secret come in the "
            "body or as HTTP Basic."
        ),
        "operation_id": "getAccessToken",
        "tags": ["oauth2"],
        "responses": _reply("The token.", given)
        | _oauth_failures(400, 401, 428)
        | failures(413, 415, 500, 503),
        "openapi_extra": {"requestBody": _body(asked)},
    }


def describe_token_info() -> dict[str, Any]:
    """What to tell about ``/oauth2/token-info``."""
    told = _object(
        {
            "active": {"type": "boolean"},
            "subjectType": {"enum": ["APP", "USER", "MEMBER", "VISITOR"]},
            "subjectId": _TEXT,
            "exp": {"type": "integer"},
            "iat": {"type": "integer"},
            "clientId": _UUID,
            "siteId": _UUID,
            "instanceId": _UUID,
        },
        required=["active"],
    )
    return {
        "summary": "Ask what a token says",
        "description": "A token that does not hold is not active, and nothing else is told.",
        "operation_id": "getTokenInfo",
        "tags": ["oauth2"],
        "responses": _reply("What it says.", told) | failures(400, 413, 415, 500, 503),
        "openapi_extra": {"requestBody": _body(_object({"token": _TEXT | {"minLength": 1}}))},
    }


def describe_keys() -> dict[str, Any]:
    """What to tell about ``/.well-known/jwks.json``."""
    key = _object(dict.fromkeys(("kty", "use", "alg", "kid", "n", "e"), _TEXT))
    keys = _object({"keys": {"type": "array", "items": key}})
    return {
        "summary": "Get the public keys",
        "description": (
            "The keys that verify webhooks, of every app (RFC 7517): choose by `kid`. Those of "
            "rotated key pairs stay for a while."
        ),
        "operation_id": "getPublicKeys",
        "tags": ["keys"],
        "responses": _reply("The keys.", keys) | failures(500, 503),
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    media_types = ("application/json", "application/x-www-form-urlencoded")
    return {"required": True, "content": {each: {"schema": schema} for each in media_types}}


def _reply(description: str, schema: dict[str, Any]) -> dict[int | str, Any]:
    content = {"application/json": {"schema": schema}}
    return {200: {"description": description, "content": content, "headers": HEADERS}}


def _oauth_failures(*statuses: int) -> dict[int | str, Any]:
    content = {"application/json": {"schema": reference("OAuthError")}}
    return {status: reply | {"content": content} for status, reply in failures(*statuses).items()}
