"""What the tests of the history share: ledgers, writers, and a projection in the test's hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from ledger import Ledger
from ledger.handle import SiteHandle

PATCHES: list[dict[str, Any]] = [
    {"createInvoice": True},
    {"createInvoice": False},
    {"createInvoice": None},
    {"inventoryUpdateTrigger": "ON_ORDER_PAID"},
    {"inventoryUpdateTrigger": "ON_ORDER_PLACED"},
    {"emailNotifications": {"orderPlaced": False}},
    {"emailNotifications": {"orderShipped": False, "pickupReady": False}},
    {"emailNotifications": None},
    {"createInvoice": True, "emailNotifications": {"orderPlaced": True}},
    {},
]


def rows(ledger: Ledger, query: str, *values: object) -> list[dict[str, Any]]:
    """What the database says, as the ledger's own role."""
    with ledger.database.connection() as connection:
        return connection.execute(query.encode(), values).fetchall()


def positions(ledger: Ledger, table: str = "settings_history", partition: int = 0) -> list[int]:
    """The positions that a table of the history has, in order."""
    query = f"SELECT position FROM {table} WHERE partition = %s ORDER BY position"
    return [row["position"] for row in rows(ledger, query, partition)]


def head(ledger: Ledger, partition: int = 0) -> int:
    """The partition's last position."""
    query = "SELECT coalesce(max(position), 0) AS head FROM events WHERE partition = %s"
    return int(rows(ledger, query, partition)[0]["head"])


@contextmanager
def writing(
    sites: Sequence[SiteHandle], writers: int, updates: int | None = None
) -> Iterator[Callable[[], int]]:
    """Writers at work on the sites within the block, each ``updates`` times or to its end.

    The caller gets a function that waits for all of them and says how many changes they made.
    """
    stop = threading.Event()

    def write(number: int) -> int:
        made = 0
        while not stop.is_set() and made != updates:
            site = sites[(number + made) % len(sites)]
            site.update(PATCHES[(number * 7 + made) % len(PATCHES)], reason=f"writer {number}")
            made += 1
        return made

    with ThreadPoolExecutor(writers) as pool:
        jobs = [pool.submit(write, number) for number in range(writers)]

        def wait() -> int:
            if updates is None:
                stop.set()
            return sum(job.result() for job in jobs)

        try:
            yield wait
        finally:
            stop.set()


def all_pages(ask: Callable[[str | None], Any]) -> list[Any]:
    """Everything that pages give, from the first to the last."""
    found: list[Any] = []
    cursor = None
    while True:
        page = ask(cursor)
        found += page
        cursor = page.next
        if cursor is None:
            return found


def site_ids(changes: Sequence[Any]) -> set[UUID]:
    """The sites that the changes are of."""
    return {change.site_id for change in changes}
