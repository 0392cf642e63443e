"""``/ledger/v1/events``: an app's webhook events, for apps that ask instead of being told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ledger.directory import Installation
from ledger.errors import NotInstalled, PermissionDenied
from ledger.permissions import Caller, Operation, check
from ledger.publisher.pull import Pulled, PullFeed
from ledger.settings import SettingsKind
from ledger.web.arrivals import Arrivals, until_rung
from ledger.web.callers import Callers
from ledger.web.errors import json_reply
from ledger.web.histories import LONGEST, NO_CACHE, PREFIX, Histories
from ledger.web.history_documentation import describe_events
from ledger.web.patience import in_time
from ledger.web.queries import Query
from ledger.web.served import ServedLedger

PAGE, MOST = 50, 1000
LONGEST_WAIT = 30
"""Seconds that a request may ask to be held open until there is something to tell."""
PAUSE_SECONDS = 0.25
"""A request that waits looks no more often than this, however often the doorbell rings."""


def add_event_routes(
    app: FastAPI,
    ledger: ServedLedger,
    callers: Callers,
    histories: Histories,
    kinds: Sequence[SettingsKind],
) -> None:
    """Add the pull feed of these kinds' events."""
    routes = _EventRoutes(ledger, callers, histories, kinds)
    app.add_api_route(f"{PREFIX}/events", routes.get, methods=["GET"], **describe_events())


class _EventRoutes:
    def __init__(
        self,
        ledger: ServedLedger,
        callers: Callers,
        histories: Histories,
        kinds: Sequence[SettingsKind],
    ) -> None:
        self._directory = ledger.directory
        self._feed = PullFeed(ledger.database)
        self._arrivals = Arrivals(ledger.database)
        self._callers = callers
        self._histories = histories
        self._kinds = kinds

    async def get(self, request: Request) -> Response:
        """Answer what came after a position; where nothing did, wait for as long as was asked."""
        caller = await self._callers.caller(request)
        kinds = self._received(caller)
        query = Query(request, {"after", "limit", "wait"})
        after = query.number("after", 0, 10**18 - 1) or 0
        limit = query.number("limit", 1, MOST) or PAGE
        wait = query.number("wait", 0, LONGEST_WAIT) or 0
        pulled = await self._pull(request, caller, kinds, (after, limit, wait))
        body = {
            "events": pulled.events,
            "pagingMetadata": {
                "count": len(pulled.events),
                # Also of the last page: it is where to go on when there is more.
                "cursors": {"next": str(pulled.position)},
                "hasNext": pulled.more,
            },
        }
        return json_reply(200, body, NO_CACHE)

    def _received(self, caller: Caller) -> list[SettingsKind]:
        """The kinds whose event the caller may receive. Raises PermissionDenied for none."""
        refused: PermissionDenied | None = None
        received = []
        for kind in self._kinds:
            try:
                check(Operation.RECEIVE, kind, caller.identity.type, caller.scopes)
                received.append(kind)
            except PermissionDenied as error:
                refused = refused or error
        if refused is not None and not received:
            raise refused
        return received

    async def _pull(
        self,
        request: Request,
        caller: Caller,
        kinds: Sequence[SettingsKind],
        asked: tuple[int, int, int],
    ) -> Pulled:
        after, limit, wait = asked
        clock = asyncio.get_running_loop().time
        # A server that is asked to stop waits for no event.
        deadline = clock() + wait
        installation = await in_time(
            self._histories.run(lambda: self._installation(caller)), LONGEST
        )

        def page() -> Pulled:
            return self._feed.after(installation, kinds, after, limit)

        if not wait:
            return await in_time(self._histories.run(page), LONGEST)
        with self._arrivals.heard() as rung:
            while True:
                rung.clear()
                looked = clock()
                pulled = await in_time(self._histories.run(page), LONGEST)
                left = deadline - clock()
                if pulled.events or left <= 0 or request.app.state.closing:
                    return pulled
                if await request.is_disconnected():
                    return pulled
                await until_rung(rung, left)
                # Others are written to all the time: so often is enough to look.
                await asyncio.sleep(min(looked + PAUSE_SECONDS - clock(), deadline - clock()))

    def _installation(self, caller: Caller) -> Installation:
        if caller.instance_id is None:
            raise PermissionDenied("The credential names no app instance, whose events these are.")
        installation = self._directory.installation(caller.instance_id)
        if installation.uninstalled_at is not None:
            raise NotInstalled("The app is not installed on the site any more.")
        return installation
