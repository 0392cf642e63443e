"""Connections of one database that work side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

from ledger.database import Connection, Database

Done = TypeVar("Done")


class Workers:
    """Do tasks on ``count`` connections at a time, each task in a transaction of its own.

    When the block is left, what was begun is waited for, and what was not is dropped.
    """

    def __init__(self, database: Database, count: int) -> None:
        self._database = database
        self._count = count
        self._threads = ThreadPoolExecutor(count, "ledger worker")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def do(self, tasks: Iterable[Callable[[Connection], Done]]) -> Iterator[Done]:
        """What the tasks give, in their order; only a few are begun before that is taken."""
        begun: deque[Future[Done]] = deque()
        for task in tasks:
            begun.append(self._threads.submit(self._do, task))
            if len(begun) > self._count:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()

    def _do(self, task: Callable[[Connection], Done]) -> Done:
        with self._database.connection() as connection:
            return task(connection)
