"""What auditors ask about a site, for every kind: changes, as-of, diff, blame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ledger.errors import InvalidInput
from ledger.history import Difference, SiteHistory
from ledger.history.pages import MOST_PER_PAGE
from ledger.permissions import Caller
from ledger.settings import SettingsKind
from ledger.web.callers import Callers
from ledger.web.errors import json_reply
from ledger.web.histories import NO_CACHE, PREFIX, Histories, renamed
from ledger.web.history_documentation import describe_history
from ledger.web.queries import Query
from ledger.web.served import ServedLedger

PAGE = 50
LAST_VERSION = 10**18 - 1


def add_history_routes(
    app: FastAPI,
    ledger: ServedLedger,
    callers: Callers,
    histories: Histories,
    name: str,
    kind: SettingsKind,
) -> None:
    """Add the questions about one kind, under ``/ledger/v1/{name}``."""
    routes = _HistoryRoutes(ledger, callers, histories, kind)
    for operation, answer in {
        "changes": routes.changes,
        "as-of": routes.as_of,
        "diff": routes.diff,
        "blame": routes.blame,
    }.items():
        told = describe_history(kind, operation)
        app.add_api_route(f"{PREFIX}/{name}/{operation}", answer, methods=["GET"], **told)


class _HistoryRoutes:
    def __init__(
        self, ledger: ServedLedger, callers: Callers, histories: Histories, kind: SettingsKind
    ) -> None:
        self._ledger = ledger
        self._callers = callers
        self._histories = histories
        self._kind = kind

    async def changes(self, request: Request) -> Response:
        """Answer a page of changes."""
        caller = await self._caller(request)
        query = Query(
            request,
            {"since", "until", "field", "by", "fromVersion", "toVersion", "order", "limit"}
            | {"cursor"},
        )
        options: dict[str, Any] = {
            "from_version": query.number("fromVersion", 1, LAST_VERSION),
            "to_version": query.number("toVersion", 1, LAST_VERSION),
            "since": query.time("since"),
            "until": query.time("until"),
            "field": query.text("field"),
            "by": query.text("by"),
            "order": query.text("order") or "newest",
            "limit": query.number("limit", 1, MOST_PER_PAGE) or PAGE,
            "cursor": query.text("cursor"),
        }

        def page(history: SiteHistory) -> dict[str, Any]:
            try:
                found = history.changes(**options)
            except InvalidInput as error:
                raise renamed(error, from_version="fromVersion", to_version="toVersion") from None
            changes = [change.json() for change in found]
            return {"changes": changes, "pagingMetadata": paging(len(changes), found.next)}

        return await self._reply(request, caller, page)

    async def as_of(self, request: Request) -> Response:
        """Answer the settings as they stood at a time or version, or as they stand."""
        caller = await self._caller(request)
        query = Query(request, {"at", "version"})
        at, version = query.time("at"), query.number("version", 0, LAST_VERSION)
        if at is not None and version is not None:
            raise InvalidInput("version", "expected either version or at, not both")
        return await self._reply(
            request,
            caller,
            lambda past: (past.at(at) if version is None else past.at_version(version)).json(),
        )

    async def diff(self, request: Request) -> Response:
        """Answer what leads from one moment to another, or to now."""
        caller = await self._caller(request)
        query = Query(request, {"from", "to"})
        left, right = query.time("from"), query.time("to")
        if left is None:
            raise InvalidInput("from", "is required: a version such as v12, or a time")

        def difference(past: SiteHistory) -> dict[str, Any]:
            found = Difference(past.at(left, option="from"), past.at(right, option="to"))
            ends = {"from": found.left, "to": found.right}
            return {
                **found.json(),
                **{
                    name: {"version": end.version, "position": end.position}
                    for name, end in ends.items()
                },
            }

        return await self._reply(request, caller, difference)

    async def blame(self, request: Request) -> Response:
        """Answer for every field its value and the change that it is owed to."""
        caller = await self._caller(request)
        at = Query(request, {"at"}).time("at")
        return await self._reply(
            request,
            caller,
            lambda past: {path: owed.json() for path, owed in past.blame(at).items()},
        )

    async def _caller(self, request: Request) -> Caller:
        caller = await self._callers.caller(request)
        caller.may_read_history(self._kind)
        return caller

    async def _reply(
        self, request: Request, caller: Caller, ask: Callable[[SiteHistory], dict[str, Any]]
    ) -> Response:
        def question() -> dict[str, Any]:
            return ask(self._ledger.site(caller.site_id, self._kind).history)

        body = await self._histories.read(request, caller, question)
        return json_reply(200, body, NO_CACHE)


def paging(count: int, following: str | None) -> dict[str, Any]:
    """Wix's ``pagingMetadata``; ``next`` is null on the last page."""
    cursors = {"next": following}
    return {"count": count, "cursors": cursors, "hasNext": following is not None}
