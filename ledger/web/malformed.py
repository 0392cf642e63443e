"""The reply to bytes that are no HTTP request: no route and no middleware ever sees them."""

from __future__ import annotations

from uuid import uuid4

import structlog

from ledger.web.errors import FRAMEWORK, application_error
from ledger.web.request_id import HEADER

log = structlog.get_logger(__name__)


def malformed() -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of the 400, with the contract's body and a request id of its own."""
    code, sentence = FRAMEWORK[400]
    reply = application_error(400, code, sentence)
    identifier = str(uuid4())
    log.info("request malformed", request_id=identifier)
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in reply.raw_headers
    ]
    return [*headers, (HEADER, identifier), ("connection", "close")], bytes(reply.body)
