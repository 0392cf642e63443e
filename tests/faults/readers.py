"""Readers that follow the log while it grows, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from faults.waiting import PULSE, eventually
from ledger import eventlog
from ledger.database import Database
from ledger.recorder import PartitionLog


class Reader:
    """Collects (position, state) of every event it comes upon, until it is stopped."""

    def __init__(self, follow: Callable[[Reader], None], stop: Callable[[], None]) -> None:
        self.seen: list[tuple[int, bytes]] = []
        self.stopped = threading.Event()
        self._error: Exception | None = None
        self._follow, self._stop = follow, stop
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._follow(self)
        except Exception as error:  # noqa: BLE001 - raised by finish()
            self._error = error

    def finish(self, end: int) -> list[tuple[int, bytes]]:
        """What was seen once position ``end`` was."""
        eventually(lambda: self._error or (self.seen and self.seen[-1][0] >= end))
        self.stop()
        if self._error is not None:
            raise self._error
        return self.seen

    def stop(self) -> None:
        """Read no further."""
        self.stopped.set()
        self._stop()
        self._thread.join()


@contextmanager
def cursor_reader(database: Database, partition: int = 0) -> Iterator[Reader]:
    """Asks for what lies behind its cursor, again and again."""

    def follow(reader: Reader) -> None:
        cursor = 0
        with database.connect("reader") as connection:
            while not reader.stopped.wait(PULSE):
                for event in eventlog.read_after(connection, partition, cursor, 200):
                    reader.seen.append((event.position, event.state))
                    cursor = event.position

    reader = Reader(follow, lambda: None)
    try:
        yield reader
    finally:
        reader.stop()


@contextmanager
def subscriber(log: PartitionLog) -> Iterator[Reader]:
    """Takes what a subscription gives."""
    with log.subscribe(gt=0) as subscription:

        def follow(reader: Reader) -> None:
            for notification in subscription:
                reader.seen.append((notification.id, notification.state))

        reader = Reader(follow, subscription.stop)
        try:
            yield reader
        finally:
            reader.stop()
