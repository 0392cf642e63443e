"""Gives every reply its ``X-Wix-Request-Id``, and answers what nothing else caught."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid4

HEADER = "X-Wix-Request-Id"
_NAME = HEADER.lower().encode()
_STATE = "ledger.request_id"

log = structlog.get_logger(__name__)


def request_id(scope: Scope) -> str:
    """The id of the request being served, a UUID; it is also in the reply and in the event."""
    return str(scope[_STATE])


class RequestIds:
    """Outermost middleware, in plain ASGI: it adds no task and no thread to a request.

    It answers unexpected exceptions itself, because what the framework does with them happens
    outside of every middleware, where the reply would miss its id. The same goes for a request
    that is cut off because the server stops.
    """

    def __init__(
        self, app: ASGIApp, crashed: Callable[[], ASGIApp], cut_off: Callable[[str], ASGIApp]
    ) -> None:
        self._app = app
        self._cut_off = cut_off
        self._crashed = crashed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identifier = scope[_STATE] = str(uuid4())
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (_NAME, identifier.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.info("client went away", request_id=identifier, path=scope["path"])
        except asyncio.CancelledError:
            # The server is asked to stop, and this took longer than it grants.
            if started or not scope["app"].state.closing:
                raise
            log.info("request cut off", request_id=identifier, path=scope["path"])
            await self._cut_off(scope["method"])(scope, receive, send_with_id)
        except Exception:
            log.exception("request failed", request_id=identifier, path=scope["path"])
            if started:
                raise
            await self._crashed()(scope, receive, send_with_id)
