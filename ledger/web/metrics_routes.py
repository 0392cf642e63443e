"""``/metrics`` for Prometheus, where the operator gave it a token."""

from __future__ import annotations

import hmac

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from ledger.errors import Unauthenticated
from ledger.publisher.metrics import exposition
from ledger.web.patience import look_up
from ledger.web.served import ServedLedger


def add_metrics_routes(app: FastAPI, ledger: ServedLedger) -> None:
    """Add ``/metrics`` if LEDGER_METRICS_TOKEN is set: it tells of every site's subscriptions."""
    token = ledger.config.metrics_token
    if token is None:
        return
    expected = f"Bearer {token.get_secret_value()}".encode()

    async def metrics(request: Request) -> Response:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            raise Unauthenticated("/metrics asks for the token of LEDGER_METRICS_TOKEN.")
        text = await look_up(exposition, ledger.database)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    app.add_api_route("/metrics", metrics, methods=["GET"], include_in_schema=False)
