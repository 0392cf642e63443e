"""The batches of a writer: one in flight, and the next as it is being decided."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from ledger.commandqueue import CommandQueue
from ledger.commands import AnyCommand, AppendCommand, SettingsCommand
from ledger.errors import ChangeRefused, LedgerError, OutcomeUnknown
from ledger.flight import Draft, Flight
from ledger.link import Link
from ledger.memory import Memory
from ledger.recording import UNFORESEEN, Recording

logger = logging.getLogger(__name__)

MOST_PER_BATCH = 512
MOST_AT_ONCE = 16_384
"""Bytes of events that a server takes in at once, even while it is frozen."""
GATHERING = 0.001
"""Seconds that changes wait for more of them where several processes append."""
ENOUGH = 16
"""Changes that are worth deciding while a batch of as many or more is in flight."""
MISTAKEN = "the writer of partition %d failed on a draft"


class Batches:
    """Takes what waits in the queue, decides it, offers it to the log and answers.

    What memory covers is decided while a batch is in flight, on what that one will have left;
    if the log refuses that, it is decided again. The rest is read between two flights. For one
    thread at a time.
    """

    def __init__(
        self,
        partition: int,
        link: Link,
        queue: CommandQueue,
        memory: Memory,
        recording: Recording,
    ) -> None:
        self._partition = partition
        self._link = link
        self._queue = queue
        self._memory = memory
        self._recording = recording
        self._running: Sequence[AnyCommand] = ()
        self._unread: list[SettingsCommand] = []
        self._draft = Draft(partition)
        self._flight: Flight | None = None
        self._apart = False

    @property
    def busy(self) -> bool:
        """Whether anything that was taken is not recorded yet."""
        return bool(self._flight or self._draft.commands or self._unread)

    @property
    def commands(self) -> list[AnyCommand]:
        """All that was taken from the queue and is not answered. For any thread."""
        flight = self._flight
        flying = flight.commands if flight else ()
        return [*self._running, *flying, *self._draft.commands, *self._unread]

    def step(self) -> bool:
        """Take what waits, and do the next that can be done; false where there is nothing."""
        if self._apart:
            self._finish()
        batch = self._running = self._queue.take(MOST_PER_BATCH - self._queue.held)
        if batch and self._apart:
            self._apart = False
            self._recording.run(batch)
        elif batch:
            self._accept(batch)
        self._running = ()
        if self._flight is None:
            self._gather()
            self._look()
            if not self._draft.commands:
                return bool(batch)
            self._launch()
        elif self._queue.held >= MOST_PER_BATCH or self._link.answered:
            self._land()
        elif not batch:
            # To wake this thread for each costs more than deciding some once the answer is here.
            self._queue.wait(self._link.socket, min(len(self._flight.commands), ENOUGH))
        return True

    def alone(self, command: AnyCommand) -> bool:
        """Record one command that did not queue, or False where that could take long.

        Begins only where nothing else waits and all is known. What then lasts beyond the
        command's deadline, or needs another attempt, is left in flight.
        """
        memory = self._memory
        if (
            self.busy
            or self._apart
            or not (self._queue.quiet and self._link.ready and memory.serves)
        ):
            return False
        if not (isinstance(command, SettingsCommand) and memory.covers(command)):
            return False
        self._running = [command]
        self._accept([command])
        if self._draft.commands and self._draft.size <= MOST_AT_ONCE:
            self._launch()
        self._running = ()
        if self._flight and self._link.fetch(command.deadline):
            self._land()
        return True

    def _accept(self, batch: Sequence[AnyCommand]) -> None:
        """Decide what memory covers; the rest is looked at once nothing is in flight."""
        if isinstance(batch[0], AppendCommand):
            if self.busy:
                self._queue.put_back(batch)
                self._finish()
            else:
                self._recording.run(batch)
            return
        covered = self._covered([c for c in batch if isinstance(c, SettingsCommand)])
        if covered:
            try:
                # Whatever memory covers ends in an event, so nothing is settled already.
                self._draft.add(covered, self._memory.surroundings())
            except Exception:
                logger.exception(MISTAKEN, self._partition)
                self._set_apart()
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

    def _gather(self) -> None:
        """Let a batch grow that must be read for because another process appends as well.

        What each costs besides its changes is then most of all: those who were just answered
        come back meanwhile. Whoever is alone is not kept waiting.
        """
        if len(self._unread) > 1 and self._memory.contested:
            time.sleep(GATHERING)
            more = self._running = self._queue.take(MOST_PER_BATCH - self._queue.held)
            if more:
                self._accept(more)
            self._running = ()

    def _look(self) -> None:
        """Decide what memory does not cover, on what the database says. Nothing is in flight."""
        self._unread = [command for command in self._unread if not command.settled]
        if self._unread:
            try:
                self._recording.decide(self._draft, self._unread)
            except ChangeRefused:
                self._set_apart()
            except LedgerError as error:
                self._recording.refused(self._unread, error)
            except Exception:
                logger.exception(MISTAKEN, self._partition)
                self._set_apart()
        self._unread = []
        self._hold()

    def _hold(self) -> None:
        self._queue.held = len(self._draft.commands) + len(self._unread)

    def _finish(self) -> None:
        """Have all that was taken recorded before anything else is."""
        while self.busy:
            if self._flight:
                self._land()
            else:
                self._look()
                if self._draft.commands:
                    self._launch()

    def give_up(self) -> None:
        """After a mistake of ours: what was sent may be recorded, what was not runs again."""
        self._link.abandon()
        flying = self._flight.commands if self._flight else ()
        lost = [*self._running, *flying]
        self._flight, self._running = None, ()
        self._set_apart()
        for command in lost:
            command.fail(OutcomeUnknown(UNFORESEEN))

    def _set_apart(self) -> None:
        """Have what spoils a batch found by halves, without the shortcuts."""
        self._apart = True
        self._recall()

    def _recall(self, *, and_people: bool = True) -> None:
        """Let what is not offered yet be decided anew, on what is read then."""
        drafted = set(self._draft.commands)
        unread = [command for command in self._unread if command not in drafted]
        again = [*self._draft.commands, *unread]
        self._draft, self._unread = Draft(self._partition), []
        self._memory.forget(and_people=and_people)
        self._hold()
        self._recording.requeue(again)

    def _launch(self) -> None:
        """Offer the draft to the log, and rely on it from now on."""
        flight = self._draft.flight()
        self._draft, self._flight = Draft(self._partition), flight
        self._hold()
        if self._recording.mark_sent(flight.commands):
            self._memory.remember(flight.folds)
            self._link.send(flight.parameters)
        else:
            self._flight = None

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
                # Where nothing was taken, it may be for somebody who was erased.
                self._recall(and_people=not positions)
            elif self._draft.commands and not self._unread:
                self._launch()
            if positions is not None:
                self._recording.settle(flight.commands, flight.folds, positions)
        self._running = ()
