"""Restore and revert of every kind: undoing by recording a new change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ledger.aggregate import SettingsRecord, originator_id
from ledger.canonical import printable
from ledger.consistency import HEADER as CONSISTENT
from ledger.errors import (
    IdempotencyConflict,
    InvalidInput,
    InvalidSettings,
    VersionMismatch,
    Violation,
)
from ledger.history import Change, Recorder, SiteHistory, Undone
from ledger.idempotency import Idempotency, select_used, used_in
from ledger.identity import Provenance
from ledger.permissions import Caller
from ledger.settings import SettingsKind
from ledger.web import headers
from ledger.web.bodies import read_json
from ledger.web.callers import Callers
from ledger.web.errors import json_reply
from ledger.web.histories import NO_CACHE, PREFIX, Histories, renamed
from ledger.web.history_documentation import describe_undo
from ledger.web.served import ServedLedger
from ledger.web.settings_routes import idempotency_of, provenance_of

_SOURCES = {"restore": ("version", "at"), "revert": ("version",)}
# Defaults can be brought back; that nothing was recorded cannot be undone.
_LOWEST_VERSION = {"restore": 0, "revert": 1}


def add_undo_routes(
    app: FastAPI,
    ledger: ServedLedger,
    callers: Callers,
    histories: Histories,
    name: str,
    kind: SettingsKind,
) -> None:
    """Add ``restore`` and ``revert`` of one kind, under ``/ledger/v1/{name}``."""
    routes = _UndoRoutes(ledger, callers, histories, kind)
    for operation, undo in (("restore", routes.restore), ("revert", routes.revert)):
        told = describe_undo(kind, operation)
        app.add_api_route(f"{PREFIX}/{name}/{operation}", undo, methods=["POST"], **told)


@dataclass(frozen=True)
class _Wish:
    """What a request wants undone; ``source`` is a version or a time."""

    source: int | str
    dry_run: bool
    provenance: Provenance
    if_match: list[int] | None
    idempotency: Idempotency | None


Undo = Callable[[SiteHistory, _Wish, int | None], Undone]


class _UndoRoutes:
    def __init__(
        self, ledger: ServedLedger, callers: Callers, histories: Histories, kind: SettingsKind
    ) -> None:
        self._ledger = ledger
        self._callers = callers
        self._histories = histories
        self._kind = kind

    async def restore(self, request: Request) -> Response:
        """Bring back the settings of a version or a time."""

        def undo(history: SiteHistory, wish: _Wish, if_version: int | None) -> Undone:
            try:
                return history.restore(
                    wish.source,
                    dry_run=wish.dry_run,
                    provenance=wish.provenance,
                    if_version=if_version,
                )
            except InvalidInput as error:
                raise renamed(
                    error, to="version" if isinstance(wish.source, int) else "at"
                ) from None

        return await self._undo(request, "restore", undo)

    async def revert(self, request: Request) -> Response:
        """Undo what one change did, of the fields that nobody changed since."""

        def undo(history: SiteHistory, wish: _Wish, if_version: int | None) -> Undone:
            assert isinstance(wish.source, int)
            return history.revert(
                wish.source,
                dry_run=wish.dry_run,
                provenance=wish.provenance,
                if_version=if_version,
            )

        return await self._undo(request, "revert", undo)

    async def _undo(self, request: Request, operation: str, undo: Undo) -> Response:
        caller = await self._callers.caller(request)
        caller.may_update(self._kind)
        wish = _wish(request, caller, await read_json(request), operation)
        body, place = await self._histories.run(lambda: self._carry_out(caller, wish, undo))
        reply = json_reply(200, body, NO_CACHE)
        if place is not None:
            reply.headers["ETag"] = headers.entity_tag(place.version)
            reply.headers[CONSISTENT] = self._histories.mint(
                request, place.partition, place.position
            )
        return reply

    def _carry_out(
        self, caller: Caller, wish: _Wish, undo: Undo
    ) -> tuple[dict[str, Any], SettingsRecord | Change | None]:
        recorded: list[SettingsRecord] = []
        site = self._ledger.directory.site(caller.site_id)
        recorder = Recorder(self._update(caller, wish, recorded), lambda: caller.identity)
        history = SiteHistory(self._ledger.horizon, site, self._kind, recorder)
        if not wish.dry_run and (version := self._done_before(history, wish)) is not None:
            [change] = history.changes(version, version)
            return history.undone(version).json(), change
        undone = undo(history, wish, self._if_version(caller, wish.if_match))
        return undone.json(), recorded[-1] if recorded else None

    def _update(
        self, caller: Caller, wish: _Wish, recorded: list[SettingsRecord]
    ) -> Callable[[Mapping[str, Any], Provenance, int], SettingsRecord]:
        def update(
            patch: Mapping[str, Any], provenance: Provenance, version: int
        ) -> SettingsRecord:
            change = self._ledger.submit(
                caller.site_id,
                self._kind,
                patch,
                provenance,
                if_match=(version,),
                idempotency=wish.idempotency,
            )
            recorded.append(change.result())
            return recorded[-1]

        return update

    def _done_before(self, history: SiteHistory, wish: _Wish) -> int | None:
        """The version that the same request made when it came before. Raises IdempotencyConflict.

        Asked before anything is planned: on top of itself it would plan something else.
        """
        if wish.idempotency is None:
            return None
        entity = originator_id(history.site_id, self._kind.fqdn)
        address = (entity, wish.idempotency.credential, wish.idempotency.key_hash)
        with self._ledger.database.connection() as connection:
            used = used_in(select_used(connection, history.partition, [address])).get(address)
        if used is None:
            return None
        if used.request_hash != wish.idempotency.request_hash:
            raise IdempotencyConflict("The Idempotency-Key was used for another request.")
        return used.version

    def _if_version(self, caller: Caller, if_match: list[int] | None) -> int | None:
        if if_match is None:
            return None
        version = self._ledger.get(caller.site_id, self._kind).version
        if version not in if_match:
            raise VersionMismatch(if_match, version)
        return version


def _wish(request: Request, caller: Caller, body: Any, operation: str) -> _Wish:
    """The request's meaning. Raises InvalidSettings with every violation at once."""
    sources = _SOURCES[operation]
    if not isinstance(body, dict):
        raise InvalidInput("body", "expected a JSON object")
    known = (*sources, "reason", "dryRun")
    violations = [
        Violation(
            printable(name), f"is not known; known are {', '.join(known)}", "FIELD_NOT_ALLOWED"
        )
        for name in body
        if name not in known
    ]
    violations += _malformed(body, _LOWEST_VERSION[operation])
    given = [name for name in sources if name in body]
    if len(given) != 1:
        rule = "ONE_OF_ALIGNMENT" if given else "REQUIRED_ONE_OF_FIELD"
        named = " or ".join(sources)
        field = "REQUIRED_FIELD" if len(sources) == 1 else rule
        violations.append(Violation(given[-1] if given else sources[0], f"expected {named}", field))
    said = headers.reason(request)
    reason, dry_run = body.get("reason") or said, body.get("dryRun") is True
    if not reason and not dry_run:
        violations.append(Violation("reason", "is required", "REQUIRED_FIELD"))
    if violations:
        raise InvalidSettings(violations)
    if_match = headers.if_match(request)
    return _Wish(
        body[given[0]],
        dry_run,
        provenance_of(request, caller, reason),
        if_match,
        idempotency_of(request, caller, if_match, body),
    )


def _malformed(body: Mapping[str, Any], lowest: int) -> list[Violation]:
    forms: dict[str, tuple[type, str]] = {
        "version": (int, "a whole number"),
        "at": (str, "a time, as text"),
        "reason": (str, "text"),
        "dryRun": (bool, "true or false"),
    }
    found = []
    for name, (form, expected) in forms.items():
        if name not in body:
            continue
        value = body[name]
        if not isinstance(value, form) or (form is int and isinstance(value, bool)):
            found.append(Violation(name, f"must be {expected}", "FORMAT"))
        elif isinstance(value, int) and name == "version" and not lowest <= value < 10**18:
            found.append(Violation(name, f"versions are numbered from {lowest}", "MIN"))
    return found
