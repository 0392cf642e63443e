"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from ledger.database import Database
from ledger.errors import LedgerError, SchemaOutdated, Unavailable
from ledger.migrate import check_schema
from ledger.web.documentation import describe_health, describe_readiness
from ledger.web.errors import application_error, json_reply

log = structlog.get_logger(__name__)

PATIENCE = 3.0
"""Seconds that a readiness check may take."""


def add_health_routes(app: FastAPI, database: Database) -> None:
    """Add ``/healthz`` and ``/readyz``; both need no credential."""
    readiness = _Readiness(database)
    app.add_api_route("/healthz", _healthz, methods=["GET"], **describe_health())
    app.add_api_route("/readyz", readiness.answer, methods=["GET"], **describe_readiness())


async def _healthz(_request: Request) -> Response:
    """Answer, which is the answer."""
    return json_reply(200, {"status": "ok"})


class _Readiness:
    """Asks the database; those who ask meanwhile share the answer, so that probes never pile up."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[str | None] | None = None
        self._known: str | None = None

    async def answer(self, _request: Request) -> Response:
        """Answer 200, or 503 with the reason."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(run_in_threadpool(self._problem))
        try:
            problem = await asyncio.wait_for(asyncio.shield(self._asking), PATIENCE)
        except TimeoutError:
            problem = "The database does not answer in time."
            self._note(problem)
        if problem is None:
            return json_reply(200, {"status": "ready"})
        return application_error(503, "UNAVAILABLE", problem, headers={"Retry-After": "1"})

    def _problem(self) -> str | None:
        try:
            with self._database.connection() as connection:
                check_schema(connection)
        except SchemaOutdated as error:
            return self._note(str(error), error)
        except Unavailable as error:
            return self._note("The database does not answer.", error)
        except LedgerError as error:
            return self._note(
                "The database cannot be used as it is; the server's log says why.", error
            )
        return self._note(None)

    def _note(self, problem: str | None, error: LedgerError | None = None) -> str | None:
        """Log where it is another problem than before, or none any more: probes come for ever."""
        if problem != self._known:
            if problem is None:
                log.info("ready again")
            else:
                log.warning("not ready", problem=problem if error is None else str(error))
            self._known = problem
        return problem
