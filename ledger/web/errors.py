"""Which error becomes which reply: the one table from ledger errors to statuses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ledger import errors
from ledger.canonical import printable
from ledger.web.request_id import request_id

log = structlog.get_logger(__name__)

STATUS: Mapping[type[errors.LedgerError], tuple[int, str]] = {
    errors.InvalidInput: (400, "INVALID_ARGUMENT"),
    errors.Unauthenticated: (401, "UNAUTHENTICATED"),
    errors.PermissionDenied: (403, "PERMISSION_DENIED"),
    errors.NotFound: (404, "NOT_FOUND"),
    errors.AlreadyExists: (409, "ALREADY_EXISTS"),
    errors.VersionMismatch: (412, "FAILED_PRECONDITION"),
    errors.NotInstalled: (428, "FAILED_PRECONDITION"),
    errors.RateLimited: (429, "RESOURCE_EXHAUSTED"),
    errors.Unavailable: (503, "UNAVAILABLE"),
    errors.OutcomeUnknown: (504, "DEADLINE_EXCEEDED"),
}
"""Error → status and ``applicationError`` code (wire contract, "Errors"), for subclasses too.

InvalidSettings has a body of its own; what is not named here is 500 and tells nothing.
"""

FRAMEWORK: Mapping[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "The request is malformed."),
    404: ("NOT_FOUND", "There is nothing at this path."),
    405: ("INVALID_ARGUMENT", "The path does not know this method."),
    413: ("INVALID_ARGUMENT", "The body is too large."),
    415: ("INVALID_ARGUMENT", "The body must be application/json; an OAuth request may be a form."),
}
"""Status → code and sentence for what the framework or a route refuses before the ledger is asked."""

NOT_RECORDED = "The ledger cannot answer now; nothing was changed. Try again later."
MAYBE_RECORDED = (
    "The change may or may not have been recorded. Repeat it with the same Idempotency-Key."
)


def json_reply(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON reply; text that cannot be encoded is shown as its escape."""
    try:
        encoded = orjson.dumps(body)
    except orjson.JSONEncodeError:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        encoded = printable(text).encode()
    return Response(encoded, status, headers, media_type="application/json")


def application_error(
    status: int,
    code: str,
    description: str,
    data: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The contract's body for a failure that no single field is to blame for."""
    error: dict[str, Any] = {"code": code, "description": description}
    if data:
        error["data"] = data
    details = {"applicationError": error}
    return json_reply(status, {"message": description, "details": details}, headers)


def internal_error() -> Response:
    """The contract's body for a failure of ours: it tells nothing."""
    return json_reply(500, {"message": "", "details": {}})


def cut_off(method: str) -> Response:
    """The contract's body for a request that was not done with when the server stopped."""
    if method in ("GET", "HEAD"):
        return application_error(503, "UNAVAILABLE", "The server stops. Try again later.")
    return application_error(504, "DEADLINE_EXCEEDED", f"The server stops. {MAYBE_RECORDED}")


async def refuse(request: Request, error: Exception) -> Response:
    """Answer any LedgerError."""
    match error:
        case errors.InvalidSettings():
            return _invalid_settings(error)
        case errors.LedgerError():
            for known, (status, code) in STATUS.items():
                if isinstance(error, known):
                    return _refused(request, error, status, code)
    log.error("request failed", request_id=request_id(request.scope), exc_info=error)
    return internal_error()


async def refuse_in_framework(_request: Request, error: Exception) -> Response:
    """Answer what the framework refused, or a route before it asked the ledger."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    code, sentence = FRAMEWORK.get(status, FRAMEWORK[400])
    headers = error.headers if isinstance(error, HTTPException) else None
    return application_error(status, code, sentence, headers=headers)


def _invalid_settings(error: errors.InvalidSettings) -> Response:
    violations = [
        {
            "field": violation.field,
            "description": violation.description,
            "violatedRule": violation.rule,
            **({"data": dict(violation.data)} if violation.data else {}),
        }
        for violation in error.violations
    ]
    details = {"validationError": {"fieldViolations": violations}}
    return json_reply(400, {"message": str(error), "details": details})


def _refused(request: Request, error: errors.LedgerError, status: int, code: str) -> Response:
    description = str(error)
    data: dict[str, Any] | None = None
    headers: dict[str, str] | None = None
    match error:
        case errors.InvalidInput(name=name):
            data = {"name": name}
        case errors.Unauthenticated():
            headers = {"WWW-Authenticate": "Bearer"}
        case errors.RateLimited(retry_after=seconds):
            headers = {"Retry-After": str(max(1, math.ceil(seconds)))}
        case errors.VersionMismatch(expected=expected, actual=actual):
            data = {"expected": list(expected), "actual": actual}
        case errors.Unavailable(retry_after=seconds):
            # The error's own words may name hosts: they are for the log.
            description, headers = NOT_RECORDED, {"Retry-After": str(max(1, math.ceil(seconds)))}
        case errors.OutcomeUnknown():
            description = MAYBE_RECORDED
    if status >= 500:
        log.warning(
            "request refused",
            status=status,
            reason=str(error),
            request_id=request_id(request.scope),
        )
    return application_error(status, code, description, data, headers)
