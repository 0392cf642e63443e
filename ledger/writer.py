"""The writer of a partition: all waiting changes as one transaction (group commit, folding)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from ledger.batch import CurrentSettings
from ledger.commandqueue import CommandQueue
from ledger.commands import AnyCommand, AppendCommand, SettingsCommand
from ledger.database import Database
from ledger.doorbell import Doorbell
from ledger.errors import LedgerError, OutcomeUnknown
from ledger.flight import Draft, Flight
from ledger.link import Link
from ledger.memory import Memory
from ledger.recording import UNFORESEEN, Recording

logger = logging.getLogger(__name__)

MOST_PER_BATCH = 512
EXPIRY_INTERVAL = 0.1


class Writer:
    """Records what callers hand in, one batch in flight at a time.

    A batch is decided and offered to the log as one transaction. What the log took is answered;
    a site that someone else moved meanwhile runs again in the next batch. When the connection
    breaks after sending, the identical bytes are offered again until the log says whether it has
    them. While a batch is in flight, the next is decided already where memory covers it, on what
    the one in flight will have left; if the log refuses that, it is decided again. Safe to use
    from any number of threads.
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
        self._unread: list[SettingsCommand] = []
        self._draft = Draft(partition)
        self._flight: Flight | None = None
        self._running: Sequence[AnyCommand] = ()
        # Whoever holds it may touch what stands above: the thread, unless it rests.
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._finished = threading.Event()

    def submit(self, command: AnyCommand) -> None:
        """Queue a command; its future is settled by its deadline. Raises Unavailable."""
        if not self._threads:
            self._start()
        self._queue.put(command)

    def close(self) -> None:
        """Record what waits, then stop. Whatever cannot be recorded ends at its deadline.

        A server that is frozen, neither answering nor hanging up, is waited for.
        """
        self._queue.close()
        if self._threads:
            self._finished.wait()

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
            while self._busy or not self._queue.drained:
                try:
                    self._step()
                except Exception:
                    logger.exception("the writer of partition %d failed", self.partition)
                    self._give_up()
            self._link.disconnect()
        self._finished.set()
        self._queue.dispose()

    @property
    def _busy(self) -> bool:
        return bool(self._flight or self._draft.commands or self._unread)

    @property
    def _in_flight(self) -> list[AnyCommand]:
        """All that was taken from the queue and is not answered."""
        flying = self._flight.commands if self._flight else ()
        return [*self._running, *flying, *self._draft.commands, *self._unread]

    def _expire_loop(self) -> None:
        while not self._finished.wait(EXPIRY_INTERVAL):
            now = time.monotonic()
            for command in [*self._queue.expired(now), *self._in_flight]:
                if command.deadline <= now:
                    command.expire()

    def _step(self) -> None:
        """Take what waits, and do the next that can be done; wait where nothing can."""
        batch = self._running = self._queue.take(MOST_PER_BATCH - self._queue.held)
        if batch:
            self._accept(batch)
        self._running = ()
        if self._flight is None:
            self._look()
            if self._draft.commands:
                self._launch()
            elif not batch:
                self._rest()
        elif self._queue.held >= MOST_PER_BATCH or self._link.answered:
            self._land()
        elif not batch:
            self._queue.wait(self._link.socket)

    def _rest(self) -> None:
        """Wait for work, while others may do it."""
        self._turn.release()
        try:
            self._queue.wait()
        finally:
            self._turn.acquire()

    def _accept(self, batch: Sequence[AnyCommand]) -> None:
        """Decide what memory covers; the rest is looked at once nothing is in flight."""
        if isinstance(batch[0], AppendCommand):
            if self._busy:
                self._queue.put_back(batch)
                self._finish()
            else:
                self._recording.run(batch)
            return
        covered = self._covered([c for c in batch if isinstance(c, SettingsCommand)])
        if covered:
            try:
                self._draft.add(covered, self._memory.surroundings())
            except Exception:
                # A mistake of ours over one command is found without the shortcut, by halves.
                logger.exception("the writer of partition %d failed on a draft", self.partition)
                self._recall()
        self._hold()

    def _covered(self, commands: Sequence[SettingsCommand]) -> Sequence[SettingsCommand]:
        """What can be decided from memory, and does not overtake what cannot."""
        if not self._memory.serves:
            self._unread += commands
            return ()
        waiting = {command.originator_id for command in self._unread}
        covered = []
        for command in commands:
            if command.originator_id not in waiting and self._memory.covers(command):
                covered.append(command)
            else:
                waiting.add(command.originator_id)
                self._unread.append(command)
        return covered

    def _look(self) -> None:
        """Decide what memory does not cover, on what the database says. Nothing is in flight."""
        unread = [command for command in self._unread if not command.settled]
        self._running, self._unread = unread, []
        if unread:
            try:
                self._recording.decide(self._draft, unread)
            except LedgerError as error:
                self._recording.refused(unread, error)
            except Exception:
                logger.exception("the writer of partition %d failed on a draft", self.partition)
                doomed = self._running = self._draft.commands
                self._forget_draft()
                self._recording.run(doomed)
        self._running = ()
        self._hold()

    def _hold(self) -> None:
        self._queue.held = len(self._draft.commands) + len(self._unread)

    def _finish(self) -> None:
        """Have all that was taken recorded before anything else is."""
        while self._busy:
            if self._flight:
                self._land()
            else:
                self._look()
                if self._draft.commands:
                    self._launch()

    def _give_up(self) -> None:
        """After a mistake of ours: what was sent may be recorded, what was not runs again."""
        self._link.disconnect()
        flying = self._flight.commands if self._flight else ()
        lost = [*self._running, *flying]
        self._flight, self._running = None, ()
        self._recall()
        for command in lost:
            command.fail(OutcomeUnknown(UNFORESEEN))

    def _recall(self) -> None:
        """Let what is not offered yet be decided anew, on what is read then."""
        again = [*self._draft.commands, *self._unread]
        self._unread = []
        self._forget_draft()
        self._hold()
        self._recording.requeue(again)

    def _forget_draft(self) -> None:
        self._draft = Draft(self.partition)
        self._memory.forget()

    def _launch(self) -> None:
        """Offer the draft to the log, and rely on it from now on."""
        flight = self._draft.flight()
        self._draft = Draft(self.partition)
        self._hold()
        if self._recording.mark_sent(flight.commands):
            self._memory.remember(flight.folds)
            self._flight = flight
            self._link.send(flight.parameters)

    def _land(self) -> None:
        """Take the log's answer to the flight, launch the draft, then answer who waited."""
        flight = self._flight
        if flight is None:
            return
        try:
            positions = self._recording.answer_to(flight)
        except LedgerError as error:
            self._flight, self._running = None, flight.commands
            self._recall()
            self._recording.refused(flight.commands, error)
        else:
            self._flight, self._running = None, flight.commands
            if positions is None or len(positions) < len(flight.offer.events):
                self._recall()
            elif self._draft.commands and not self._unread:
                self._launch()
            if positions is not None:
                self._recording.settle(flight.commands, flight.folds, positions)
        self._running = ()
