"""Who calls, for every route that needs a credential; and how often they may."""

from __future__ import annotations

from starlette.requests import Request

from ledger.access import ACCOUNT_HEADER, SITE_HEADER
from ledger.permissions import Caller
from ledger.ratelimit import RateLimit
from ledger.web import headers
from ledger.web.patience import look_up
from ledger.web.served import ServedLedger


class Callers:
    """The one way from a request to its caller: credential, site, rate limit, in this order.

    The limit holds per key or app instance over all routes, in each server process.
    """

    def __init__(self, ledger: ServedLedger) -> None:
        self._access = ledger.access
        self._directory = ledger.directory
        self._limit = RateLimit(ledger.config.rate_limit)

    async def caller(self, request: Request) -> Caller:
        """Who calls. Raises what ``Access.caller`` raises, NotFound, and RateLimited."""
        credentials = (
            headers.single(request, "Authorization"),
            headers.single(request, SITE_HEADER),
            headers.single(request, ACCOUNT_HEADER),
        )
        caller = self._access.remembered(*credentials)
        if caller is None or self._directory.remembered_site(caller.site_id) is None:
            caller = await look_up(self._look_up, *credentials)
        self._limit.admit(caller.client)
        return caller

    def _look_up(self, *credentials: str | None) -> Caller:
        caller = self._access.caller(*credentials)
        # Remembered from here on, so that `submit` need not ask the database on the event loop.
        self._directory.site(caller.site_id)
        return caller
