"""The bounded queue between callers and a partition's writer."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from ledger.commands import AnyCommand, AppendCommand
from ledger.errors import Unavailable


class CommandQueue:
    """First come, first served; refuses when full instead of growing.

    ``held`` is how many of the taken ones still count as waiting.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[AnyCommand] = deque()
        self._lock = threading.Lock()
        self._closed = False
        # Whoever takes may wait for the database as well, so it is woken by way of a pipe.
        self._asleep = False
        self._woken = False
        self._enough = 1
        self._bell: tuple[int, int] | None = None
        self.held = 0

    def put(self, command: AnyCommand) -> None:
        """Queue a command. Raises Unavailable when the queue is full or closed."""
        with self._lock:
            if self._closed:
                raise Unavailable("The ledger is closing; the change was not recorded.")
            if len(self._waiting) + self.held >= self._size:
                raise Unavailable(
                    "Too many changes are waiting to be recorded; this one was not recorded."
                )
            self._waiting.append(command)
            if len(self._waiting) >= self._enough:
                self._wake()

    def put_back(
        self, commands: Sequence[AnyCommand], *, behind: Sequence[AnyCommand] = ()
    ) -> None:
        """Put commands that were taken at the front again, in their order.

        Those of ``behind`` that were put back just before stay in front of them.
        """
        with self._lock:
            ahead: list[AnyCommand] = []
            while self._waiting and self._waiting[0] in behind:
                ahead.append(self._waiting.popleft())
            self._waiting.extendleft(reversed([*ahead, *commands]))
            self._wake()

    def take(self, most: int) -> list[AnyCommand]:
        """Up to ``most`` of the waiting commands for one batch; none where none wait.

        Finished events to append are a batch of their own, since they are all or none.
        """
        batch: list[AnyCommand] = []
        with self._lock:
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

    def wait(self, socket: int | None = None, enough: int = 1) -> None:
        """Return once ``enough`` commands wait, or the ``socket`` can be read, or after ``wake``.

        Without a socket also after ``close``.
        """
        with self._lock:
            woken, self._woken = self._woken, False
            if len(self._waiting) >= enough or woken or (self._closed and socket is None):
                return
            self._enough = enough
            self._bell = self._bell or _pipe()
            self._asleep = True
            bell = self._bell[0]
        poll = select.poll()
        for source in (bell, socket):
            if source is not None:
                poll.register(source, select.POLLIN)
        poll.poll()
        with self._lock:
            self._asleep = self._woken = False
            with suppress(BlockingIOError):
                os.read(bell, 64)

    def wake(self) -> None:
        """Have whoever waits, or will wait next, look around."""
        with self._lock:
            self._woken = True
            self._wake()

    @property
    def quiet(self) -> bool:
        """Whether nothing waits, and commands are still accepted."""
        with self._lock:
            return not self._waiting and not self._closed

    def expired(self, now: float) -> list[AnyCommand]:
        """The waiting commands whose deadline has passed at ``now`` (monotonic seconds)."""
        with self._lock:
            return [command for command in self._waiting if command.deadline <= now]

    @property
    def drained(self) -> bool:
        """Whether the queue was closed and has nothing left."""
        with self._lock:
            return self._closed and not self._waiting

    def close(self) -> None:
        """Refuse new commands; those that wait are still taken."""
        with self._lock:
            self._closed = True
            self._wake()

    def dispose(self) -> None:
        """Give back what waiting took; nobody waits or puts anything in any more."""
        with self._lock:
            for end in self._bell or ():
                os.close(end)
            self._bell = None

    def _wake(self) -> None:
        if self._asleep and self._bell is not None:
            self._asleep = False
            os.write(self._bell[1], b"!")


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends
