"""Current settings for many requests at once: those that wait share one query and one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from uuid import UUID

from ledger.aggregate import SettingsRecord
from ledger.settings import SettingsKind
from ledger.web.patience import look_up
from ledger.web.served import ServedLedger

SLOW = 0.05
"""Seconds after which reads that came since wait no longer for the query under way."""

Waiting = list[tuple[UUID, "asyncio.Future[SettingsRecord]"]]


class CurrentReads:
    """Reads the settings of one kind, for one event loop.

    What is asked while a query is under way is part of the next one. So every read is answered
    by a query that began after it, and sees all that was acknowledged before.
    """

    def __init__(self, ledger: ServedLedger, kind: SettingsKind) -> None:
        self._ledger = ledger
        self._kind = kind
        self._waiting: Waiting = []
        self._turns: asyncio.Task[None] | None = None
        self._queries: set[asyncio.Task[None]] = set()

    async def get(self, site_id: UUID) -> SettingsRecord:
        """The settings of a site as they stand. Raises what ``look_up`` and the ledger raise."""
        answer: asyncio.Future[SettingsRecord] = asyncio.get_running_loop().create_future()
        self._waiting.append((site_id, answer))
        if self._turns is None or self._turns.done():
            self._turns = asyncio.create_task(self._take_turns())
        return await answer

    async def _take_turns(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            query = asyncio.create_task(self._answer(batch))
            self._queries.add(query)
            query.add_done_callback(self._queries.discard)
            await asyncio.wait({query}, timeout=SLOW)

    async def _answer(self, batch: Waiting) -> None:
        try:
            records = await look_up(self._read, {site_id for site_id, _ in batch})
        except Exception as error:  # noqa: BLE001 — raised where each of them waits
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for site_id, answer in batch:
            if not answer.done():
                answer.set_result(records[site_id])

    def _read(self, site_ids: Collection[UUID]) -> Mapping[UUID, SettingsRecord]:
        if len(site_ids) > 1:
            return self._ledger.get_all(site_ids, self._kind)
        return {site_id: self._ledger.get(site_id, self._kind) for site_id in site_ids}
