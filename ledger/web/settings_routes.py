"""GET and PATCH of every settings kind: nothing in here knows one kind from another."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ledger.aggregate import SettingsRecord
from ledger.canonical import printable
from ledger.consistency import HEADER as CONSISTENT
from ledger.consistency import ConsistencyTokens
from ledger.errors import InvalidInput, InvalidSettings, Violation
from ledger.idempotency import Idempotency
from ledger.identity import Provenance, Via
from ledger.permissions import Caller
from ledger.settings import SettingsKind
from ledger.web import headers
from ledger.web.answers import Answers
from ledger.web.bodies import read_json, request_hash
from ledger.web.callers import Callers
from ledger.web.direct import Address, Endpoint
from ledger.web.documentation import describe_get, describe_patch
from ledger.web.errors import json_reply
from ledger.web.reads import CurrentReads
from ledger.web.request_id import request_id
from ledger.web.served import ServedLedger


def add_settings_routes(
    app: FastAPI, ledger: ServedLedger, callers: Callers, kind: SettingsKind
) -> dict[Address, Endpoint]:
    """Add the routes of one kind, exactly as the seeds show them; what is asked most of it."""
    routes = _SettingsRoutes(ledger, callers, kind)
    app.add_api_route(kind.path, routes.get, methods=["GET"], **describe_get(kind))
    app.add_api_route(kind.path, routes.get, methods=["HEAD"], include_in_schema=False)
    app.add_api_route(kind.path, routes.patch, methods=["PATCH"], **describe_patch(kind))
    return {("GET", kind.path): routes.get, ("PATCH", kind.path): routes.patch}


class _SettingsRoutes:
    def __init__(self, ledger: ServedLedger, callers: Callers, kind: SettingsKind) -> None:
        self._ledger = ledger
        self._callers = callers
        self._consistency = ConsistencyTokens(ledger.keyring)
        self._reads = CurrentReads(ledger, kind)
        self._answers: Answers[SettingsRecord] = Answers()
        self._kind = kind

    async def get(self, request: Request) -> Response:
        """Answer the current settings; 304 where If-None-Match names their version."""
        caller = await self._callers.caller(request)
        caller.may_read(self._kind)
        record = await self._reads.get(caller.site_id)
        if headers.unchanged(request, record.version):
            return Response(status_code=304, headers=_reply_headers(record))
        return self._reply(record)

    async def patch(self, request: Request) -> Response:
        """Record a change and answer the settings after it."""
        caller = await self._callers.caller(request)
        caller.may_update(self._kind)
        body = await read_json(request)
        if_match = headers.if_match(request)
        change = self._ledger.submit(
            caller.site_id,
            self._kind,
            self._patch(body),
            provenance_of(request, caller, headers.reason(request)),
            if_match=if_match,
            idempotency=idempotency_of(request, caller, if_match, body),
        )
        # What was handed over is recorded whether or not its caller stays to hear of it.
        record = await self._answers.of(change)
        seen = self._consistency.mint(
            record.partition, record.position, request.headers.get(CONSISTENT)
        )
        return self._reply(record, {CONSISTENT: seen})

    def _patch(self, body: Any) -> Any:
        """What stands under the wrapper; every violation of the whole body at once."""
        if not isinstance(body, dict):
            raise InvalidInput("body", "expected a JSON object")
        wrapper, unknown_fields = self._kind.wrapper, self._ledger.config.unknown_fields
        violations: list[Violation] = []
        if unknown_fields == "refuse":
            violations = [
                Violation(printable(name), f"is not known; expected {wrapper}", "FIELD_NOT_ALLOWED")
                for name in body
                if name != wrapper
            ]
        patch = body.get(wrapper)
        if patch is None:
            violations.append(Violation(wrapper, "is required", "REQUIRED_FIELD"))
        elif violations:
            violations += self._violations_within(patch)
        if violations:
            raise InvalidSettings(violations)
        return patch

    def _violations_within(self, patch: Any) -> tuple[Violation, ...]:
        try:
            self._kind.validate_patch(patch, unknown_fields=self._ledger.config.unknown_fields)
        except InvalidSettings as error:
            return error.violations
        return ()

    def _reply(self, record: SettingsRecord, more: dict[str, str] | None = None) -> Response:
        settings = self._kind.reply(record.settings, record.created, record.updated)
        shown = _reply_headers(record) | (more or {})
        return json_reply(200, {self._kind.wrapper: settings}, shown)


def _reply_headers(record: SettingsRecord) -> dict[str, str]:
    return {"ETag": headers.entity_tag(record.version), "Cache-Control": "private, no-cache"}


def provenance_of(request: Request, caller: Caller, reason: str | None) -> Provenance:
    """Who changes something by a request, through what and why."""
    return Provenance(
        actor=caller.identity,
        via=Via("http", caller.credential),
        reason=reason,
        request_id=request_id(request.scope),
    )


def idempotency_of(
    request: Request, caller: Caller, if_match: list[int] | None, body: Any
) -> Idempotency | None:
    """The request's promise to be the same as others with its key. Raises InvalidInput."""
    key = headers.idempotency_key(request)
    if key is None:
        return None
    hashed = request_hash(request.method, request.url.path, if_match, body)
    return Idempotency(caller.client, key, hashed)
