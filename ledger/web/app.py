"""The application: routes of every kind, health, documentation, and errors for all of them."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from ledger.errors import LedgerError
from ledger.kinds import KINDS
from ledger.settings import SettingsKind
from ledger.web.callers import Callers
from ledger.web.direct import Address, Api, Endpoint
from ledger.web.documentation import DESCRIPTION, document, version
from ledger.web.errors import cut_off, internal_error, refuse, refuse_in_framework
from ledger.web.event_routes import add_event_routes
from ledger.web.health import add_health_routes
from ledger.web.histories import Histories, resource_names
from ledger.web.history_routes import add_history_routes
from ledger.web.key_routes import add_key_routes
from ledger.web.metrics_routes import add_metrics_routes
from ledger.web.oauth_routes import add_oauth_routes
from ledger.web.request_id import RequestIds
from ledger.web.served import ServedLedger
from ledger.web.settings_routes import add_settings_routes
from ledger.web.undo_routes import add_undo_routes


def create_app(ledger: ServedLedger, kinds: Iterable[SettingsKind] | None = None) -> Api:
    """Serve a ledger that is open, and that the caller closes after the server has stopped.

    Whoever is about to stop the server sets ``app.state.closing``: requests that wait for
    something to happen are then answered.
    """
    served = list(KINDS.values() if kinds is None else kinds)
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="Settings ledger",
        version=version(),
        description=DESCRIPTION,
        redirect_slashes=False,
        static_url="/docs/assets",
    )
    app.state.closing = False
    callers = Callers(ledger)
    direct: dict[Address, Endpoint] = {}
    for kind in served:
        direct |= add_settings_routes(app, ledger, callers, kind)
    histories = Histories(ledger)
    for name, kind in resource_names(served).items():
        add_history_routes(app, ledger, callers, histories, name, kind)
        add_undo_routes(app, ledger, callers, histories, name, kind)
    add_event_routes(app, ledger, callers, histories, served)
    add_oauth_routes(app, ledger.access)
    add_key_routes(app, ledger.directory)
    add_health_routes(app, ledger.database)
    add_metrics_routes(app, ledger)
    app.add_exception_handler(LedgerError, refuse)
    app.add_exception_handler(RequestValidationError, refuse_in_framework)
    app.add_exception_handler(HTTPException, refuse_in_framework)
    app.add_exception_handler(405, _method_not_allowed)
    app.add_middleware(RequestIds, crashed=internal_error, cut_off=cut_off)
    document(app, served)
    return Api(app, direct)


async def _method_not_allowed(request: Request, _error: Exception) -> Response:
    """405 with every method of the path: the framework names those of its first route only."""
    allowed: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            allowed |= getattr(route, "methods", None) or set()
    # The files behind /docs are the only ones that name no methods.
    headers = {"Allow": ", ".join(sorted(allowed or {"GET", "HEAD"}))}
    return await refuse_in_framework(request, HTTPException(405, headers=headers))
