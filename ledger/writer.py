"""The writer of a partition: all waiting changes as one transaction (group commit, folding)."""

from __future__ import annotations

import logging
import threading
import time

from ledger.batch import CurrentSettings
from ledger.batches import Batches
from ledger.commandqueue import CommandQueue
from ledger.commands import AnyCommand
from ledger.database import Database
from ledger.doorbell import Doorbell
from ledger.errors import OutcomeUnknown
from ledger.link import Link
from ledger.memory import Memory
from ledger.recording import UNFORESEEN, Recording

logger = logging.getLogger(__name__)

EXPIRY_INTERVAL = 0.1
FAILED = "the writer of partition %d failed"


class Writer:
    """Records what callers hand in, one batch in flight at a time.

    A batch is decided and offered to the log as one transaction. What the log took is answered;
    a site that someone else moved meanwhile runs again in the next batch. When the connection
    breaks after sending, the identical bytes are offered again until the log says whether it has
    them. Safe to use from any number of threads.
    """

    def __init__(
        self,
        database: Database,
        partition: int,
        current: CurrentSettings | None,
        doorbell: Doorbell,
        *,
        queue_size: int = 10_000,
    ) -> None:
        self.partition = partition
        self._link = Link(database, f"writer {partition}")
        self._queue = CommandQueue(queue_size)
        self._memory = Memory()
        self._recording = Recording(
            partition, self._link, current, self._queue, self._memory, doorbell
        )
        self._batches = Batches(partition, self._link, self._queue, self._memory, self._recording)
        # Whoever holds it may take a step: the thread, unless it rests.
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._finished = threading.Event()

    def submit(self, command: AnyCommand) -> None:
        """Queue a command; its future is settled by its deadline. Raises Unavailable."""
        if not self._threads:
            self._start()
        self._queue.put(command)

    def record(self, command: AnyCommand) -> None:
        """The same for a caller who then waits: does the work where nobody else is at it.

        To hand it over and back costs a thread's wake-up each, half of a lone change's time.
        """
        if not self._threads:
            self._start()
        # In the main thread a signal's handler may raise at any point: it only waits.
        if threading.current_thread() is threading.main_thread() or not self._did(command):
            self._queue.put(command)

    def _did(self, command: AnyCommand) -> bool:
        if not self._turn.acquire(blocking=False):
            return False
        try:
            return self._batches.alone(command)
        except Exception:
            logger.exception(FAILED, self.partition)
            self._batches.give_up()
            command.fail(OutcomeUnknown(UNFORESEEN))
            return True
        finally:
            left = self._batches.busy
            self._turn.release()
            if left:
                self._queue.wake()

    def close(self) -> None:
        """Record what waits, then stop. Whatever cannot be recorded ends at its deadline.

        A server that is frozen, neither answering nor hanging up, is waited for.
        """
        self._queue.close()
        # Ended, not just finished: at the interpreter's end a thread stops wherever it is, with
        # whatever lock it holds.
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        with self._starting:
            if self._threads:
                return
            name = f"ledger writer {self.partition}"
            threads = [
                threading.Thread(target=self._loop, name=name, daemon=True),
                threading.Thread(target=self._expire_loop, name=f"{name} expiry", daemon=True),
            ]
            for thread in threads:
                thread.start()
            self._threads = threads

    def _loop(self) -> None:
        with self._turn:
            while self._batches.busy or not self._queue.drained:
                try:
                    if not self._batches.step():
                        self._rest()
                except Exception:
                    logger.exception(FAILED, self.partition)
                    self._batches.give_up()
            self._link.disconnect()
        self._finished.set()
        self._queue.dispose()

    def _rest(self) -> None:
        """Wait for work, while others may do it."""
        self._turn.release()
        try:
            self._queue.wait()
        finally:
            self._turn.acquire()

    @property
    def _in_flight(self) -> list[AnyCommand]:
        return self._batches.commands

    def _expire_loop(self) -> None:
        while not self._finished.wait(EXPIRY_INTERVAL):
            now = time.monotonic()
            for command in [*self._queue.expired(now), *self._in_flight]:
                if command.deadline <= now:
                    command.expire()
