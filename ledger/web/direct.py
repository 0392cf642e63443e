"""The API as one application: FastAPI, and before it the routes that are asked most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ledger.errors import LedgerError
from ledger.web.errors import cut_off, internal_error, refuse, refuse_in_framework
from ledger.web.request_id import RequestIds

Endpoint = Callable[[Request], Awaitable[Response]]
Address = tuple[str, str]
"""Method and path."""


class Api:
    """Answers ``direct`` endpoints itself and leaves the rest to the framework.

    What takes a bare request and gives a whole response needs none of the framework's layers
    between the two, which cost more than all that is done there. Such endpoints are routes of
    the framework as well: for its documentation, and for other methods of their paths.
    """

    def __init__(self, framework: FastAPI, direct: Mapping[Address, Endpoint]) -> None:
        self.state = framework.state
        self.routes = framework.routes
        self.openapi = framework.openapi
        self.framework = framework
        self._direct = {
            address: RequestIds(_answering(endpoint), internal_error, cut_off)
            for address, endpoint in direct.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            direct = self._direct.get((scope["method"], scope["path"]))
            if direct is not None:
                scope["app"] = self
                await direct(scope, receive, send)
                return
        await self.framework(scope, receive, send)


def _answering(endpoint: Endpoint) -> ASGIApp:
    """The endpoint as an application that answers the errors which the framework would."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except LedgerError as error:
            response = await refuse(request, error)
        except HTTPException as error:
            response = await refuse_in_framework(request, error)
        await response(scope, receive, send)

    return application
