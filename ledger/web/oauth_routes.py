"""``/oauth2/token`` and ``/oauth2/token-info``: access tokens for app instances."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from urllib.parse import unquote_plus

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ledger.access import LIFETIME, Access, TokenInfo
from ledger.errors import InvalidInput, LedgerError, NotInstalled, Unauthenticated
from ledger.identity import IdentityType
from ledger.web import headers
from ledger.web.bodies import read_parameters
from ledger.web.errors import json_reply, refuse
from ledger.web.oauth_documentation import describe_token, describe_token_info
from ledger.web.patience import look_up

GRANT_TYPE = "client_credentials"
_NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}

# What the SDK calls the identity types in a token's description.
_SUBJECTS: Mapping[IdentityType, str] = {
    IdentityType.APP: "APP",
    IdentityType.WIX_USER: "USER",
    IdentityType.MEMBER: "MEMBER",
    IdentityType.ANONYMOUS_VISITOR: "VISITOR",
}


class UnsupportedGrant(InvalidInput):
    """Another grant than client credentials was asked for."""


def add_oauth_routes(app: FastAPI, access: Access) -> None:
    """Add both routes; they need no credential but those in the body."""
    routes = _OAuthRoutes(access)
    app.add_api_route("/oauth2/token", routes.token, methods=["POST"], **describe_token())
    app.add_api_route(
        "/oauth2/token-info", routes.token_info, methods=["POST"], **describe_token_info()
    )


class _OAuthRoutes:
    def __init__(self, access: Access) -> None:
        self._grants = access.grants

    async def token(self, request: Request) -> Response:
        """Answer an access token for the app instance named (RFC 6749, section 4.4)."""
        try:
            client_id, client_secret, instance_id = await _client(request)
            token = await look_up(self._grants.grant, client_id, client_secret, instance_id)
        except (InvalidInput, Unauthenticated, NotInstalled) as error:
            return await _refused(request, error)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME}
        return json_reply(200, body, _NOT_STORED)

    async def token_info(self, request: Request) -> Response:
        """Answer what a token says, or that it does not hold (after RFC 7662, open as Wix's is)."""
        parameters = await read_parameters(request)
        if not parameters.get("token"):
            raise InvalidInput("token", "is required")
        info = await look_up(self._grants.describe, parameters["token"].strip())
        return json_reply(200, {"active": False} if info is None else _described(info), _NOT_STORED)


async def _client(request: Request) -> tuple[str, str, str]:
    """Client id, secret and instance id. Raises InvalidInput and Unauthenticated."""
    parameters = await read_parameters(request)
    if parameters.get("grant_type") != GRANT_TYPE:
        raise UnsupportedGrant("grant_type", f"expected {GRANT_TYPE}")
    basic = _basic(headers.single(request, "Authorization"))
    if basic is not None:
        if "client_secret" in parameters:
            raise InvalidInput("client_secret", "expected in the header or the body, not in both")
        if parameters.get("client_id", basic[0]) != basic[0]:
            raise InvalidInput("client_id", "expected the same in the header and the body")
        parameters["client_id"], parameters["client_secret"] = basic
    for name in ("client_id", "client_secret", "instance_id"):
        if not parameters.get(name):
            raise InvalidInput(name, "is required")
    return parameters["client_id"], parameters["client_secret"], parameters["instance_id"]


def _basic(authorization: str | None) -> tuple[str, str] | None:
    """Client id and secret as HTTP Basic has them (RFC 6749, section 2.3.1), each form-encoded.

    None where the header is absent or of another scheme: the SDK's own requests may carry one.
    Raises Unauthenticated for a malformed one.
    """
    scheme, _, encoded = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Unauthenticated("The Authorization header is malformed.") from None
    client_id, _, client_secret = decoded.partition(":")
    return unquote_plus(client_id), unquote_plus(client_secret)


async def _refused(request: Request, error: LedgerError) -> Response:
    """The contract's body, and beside it what an OAuth client looks for (RFC 6749, section 5.2)."""
    reply = await refuse(request, error)
    match error:
        case UnsupportedGrant():
            code = "unsupported_grant_type"
        case Unauthenticated():
            code = "invalid_client"
        case NotInstalled():
            code = "invalid_grant"
        case _:
            code = "invalid_request"
    body = json.loads(bytes(reply.body)) | {"error": code, "error_description": str(error)}
    extra = dict(_NOT_STORED)
    if isinstance(error, Unauthenticated):
        extra["WWW-Authenticate"] = 'Basic realm="settings-ledger"'
    return json_reply(reply.status_code, body, extra)


def _described(info: TokenInfo) -> dict[str, object]:
    caller = info.caller
    described: dict[str, object] = {
        "active": True,
        "subjectType": _SUBJECTS[caller.identity.type],
        "subjectId": caller.identity.id,
        "exp": info.expires_at,
        "iat": info.issued_at,
        "siteId": str(caller.site_id),
    }
    if info.app_id is not None:
        described |= {"clientId": str(info.app_id), "instanceId": str(caller.instance_id)}
    return described
