"""The bounded queue between callers and a partition's writer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from ledger.commands import AnyCommand, AppendCommand
from ledger.errors import Unavailable


class CommandQueue:
    """First come, first served; refuses when full instead of growing."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[AnyCommand] = deque()
        self._arrived = threading.Condition()
        self._closed = False

    def put(self, command: AnyCommand) -> None:
        """Queue a command. Raises Unavailable when the queue is full or closed."""
        with self._arrived:
            if self._closed:
                raise Unavailable("The ledger is closing; the change was not recorded.")
            if len(self._waiting) >= self._size:
                raise Unavailable(
                    "Too many changes are waiting to be recorded; this one was not recorded."
                )
            self._waiting.append(command)
            self._arrived.notify()

    def put_back(self, commands: Sequence[AnyCommand]) -> None:
        """Put commands that were taken at the front again, in their order."""
        with self._arrived:
            self._waiting.extendleft(reversed(commands))
            self._arrived.notify()

    def take(self, most: int) -> list[AnyCommand]:
        """Up to ``most`` commands for one batch; blocks until there is one, empty once closed.

        Finished events to append are a batch of their own, since they are all or none.
        """
        with self._arrived:
            while not self._waiting and not self._closed:
                self._arrived.wait()
            batch: list[AnyCommand] = []
            while self._waiting and len(batch) < most:
                alone = isinstance(self._waiting[0], AppendCommand)
                if alone and batch:
                    break
                command = self._waiting.popleft()
                if command.start():
                    batch.append(command)
                if alone:
                    break
            return batch

    def expired(self, now: float) -> list[AnyCommand]:
        """The waiting commands whose deadline has passed at ``now`` (monotonic seconds)."""
        with self._arrived:
            return [command for command in self._waiting if command.deadline <= now]

    @property
    def drained(self) -> bool:
        """Whether the queue was closed and has nothing left."""
        with self._arrived:
            return self._closed and not self._waiting

    def close(self) -> None:
        """Refuse new commands; those that wait are still taken."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
