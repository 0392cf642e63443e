"""Which history a request asks about, and where such questions are worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request

from ledger.consistency import HEADER as CONSISTENT
from ledger.consistency import ConsistencyTokens
from ledger.errors import InvalidInput
from ledger.permissions import Caller
from ledger.settings import SettingsKind
from ledger.web.patience import in_time
from ledger.web.served import ServedLedger

T = TypeVar("T")

PREFIX = "/ledger/v1"
AT_ONCE = 4
"""Questions about the past that a process works on at a time; fewer than its connections, so
that however long they wait, the present is still answered."""
PATIENCE = 10.0
"""Seconds that a read waits for what its client has seen already."""
LONGEST = 30.0
"""Seconds that any question may take, the wait for its turn included."""
NO_CACHE = {"Cache-Control": "private, no-cache"}

_TAKEN = frozenset({"events"})


def resource_names(kinds: Iterable[SettingsKind]) -> dict[str, SettingsKind]:
    """What each kind is called under ``/ledger/v1``: how its path ends (``orders-settings``).

    The one declared first has the name; a later one of the same ending has its FQDN.
    """
    names: dict[str, SettingsKind] = {}
    for kind in kinds:
        ending = kind.path.rpartition("/")[2]
        names[kind.fqdn if ending in names or ending in _TAKEN else ending] = kind
    return names


class Histories:
    """Runs questions about the past beside the event loop, a few at a time."""

    def __init__(self, ledger: ServedLedger) -> None:
        self._ledger = ledger
        self._consistency = ConsistencyTokens(ledger.keyring)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="settings-ledger history")

    async def read(self, request: Request, caller: Caller, question: Callable[[], T]) -> T:
        """Answer ``question``, which sees all that the client has seen: ``X-Wix-Consistent``."""
        seen = self._consistency.read(request.headers.get(CONSISTENT))

        def answer() -> T:
            partition = self._ledger.directory.site(caller.site_id).partition
            if partition in seen:
                table = self._ledger.horizon.table
                table.catch_up(partition, seen[partition], PATIENCE)
            return question()

        return await in_time(self.run(answer), LONGEST)

    async def run(self, work: Callable[[], T]) -> T:
        """Do what may take long. A client that does not stay to hear of it does not stop it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def mint(self, request: Request, partition: int, position: int) -> str:
        """The token by which later reads see a write at this place."""
        return self._consistency.mint(partition, position, request.headers.get(CONSISTENT))


def renamed(error: InvalidInput, **parameters: str) -> InvalidInput:
    """The error with its argument called as the request calls it."""
    return InvalidInput(parameters.get(error.name, error.name), error.expected)
