"""Batches recorded one at a time: decided on what the database says, offered, answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger import eventlog
from ledger.aggregate import SettingsRecord
from ledger.batch import CurrentSettings, Offer, Positions, read_surroundings
from ledger.commandqueue import CommandQueue
from ledger.commands import AnyCommand, AppendCommand, SettingsCommand
from ledger.database import Connection
from ledger.doorbell import Doorbell
from ledger.errors import ChangeRefused, LedgerError, NotFound, OutcomeUnknown
from ledger.flight import Draft, Flight, answer
from ledger.folding import SiteFold, Surroundings, chain, refuse_unknown
from ledger.link import Link
from ledger.memory import Memory

logger = logging.getLogger(__name__)

LONGEST_READING = 0.25
"""Seconds after which an answer says nothing of the clock when it was asked for."""
UNFORESEEN = "The change failed in an unforeseen way."


class Recording:
    """Runs batches for a writer, and answers whoever waits for them.

    What could not be decided, because somebody else moved a site meanwhile, goes back to the
    front of the queue. For one thread at a time.
    """

    def __init__(
        self,
        partition: int,
        link: Link,
        current: CurrentSettings | None,
        queue: CommandQueue,
        memory: Memory,
        doorbell: Doorbell,
    ) -> None:
        self._partition = partition
        self._link = link
        self._current = current
        self._queue = queue
        self._memory = memory
        self._doorbell = doorbell

    def run(self, batch: Sequence[AnyCommand]) -> None:
        """Record one batch; what could not be decided goes back to the front of the queue."""
        batch = [command for command in batch if not command.settled]
        if not batch:
            return
        try:
            if isinstance(batch[0], AppendCommand):
                self._run_append(batch[0])
            else:
                self._run_settings([c for c in batch if isinstance(c, SettingsCommand)])
        except LedgerError as error:
            self.refused(batch, error)
        except Exception:
            # A mistake of ours over one command must not cost the others theirs.
            logger.exception("the writer of partition %d failed on a batch", self._partition)
            self._link.abandon()
            if any(command.sent for command in batch):
                for command in batch:
                    command.fail(OutcomeUnknown(UNFORESEEN))
            else:
                self._split(batch, LedgerError(UNFORESEEN))

    def refused(self, batch: Sequence[AnyCommand], error: LedgerError) -> None:
        if isinstance(error, ChangeRefused):
            self._split(batch, error)
        else:
            for command in batch:
                command.fail(error)

    def _split(self, batch: Sequence[AnyCommand], error: LedgerError) -> None:
        """Run halves of a batch that was refused, until the culprit stands alone.

        Where commands of the first half must run again, those of their sites do not overtake them.
        """
        for command in batch:
            command.mark_unsent()
        if len(batch) == 1:
            batch[0].fail(error)
            return
        middle = len(batch) // 2
        first, second = batch[:middle], batch[middle:]
        self.run(first)
        again = {c.originator_id for c in first if isinstance(c, SettingsCommand) and not c.settled}
        late = [c for c in second if isinstance(c, SettingsCommand) and c.originator_id in again]
        self._queue.put_back(late, behind=first)
        self.run([command for command in second if command not in late])

    def _run_settings(self, commands: Sequence[SettingsCommand]) -> None:
        """Decide and record these alone."""
        draft = Draft(self._partition)
        self.decide(draft, commands)
        if not draft.commands:
            return
        flight = draft.flight()
        if not self.mark_sent(flight.commands):
            return
        positions = self.answer_to(flight)
        if positions is not None:
            if len(positions) == len(flight.offer.events):
                self._memory.remember(flight.folds)
            else:
                self._memory.forget(and_people=not positions)
            self.settle(flight.commands, flight.folds, positions)

    def decide(self, draft: Draft, commands: Sequence[SettingsCommand]) -> None:
        """Add commands to a draft on what the database says; nothing may be in flight.

        Those that need no event are answered. Raises the ledger's error where the database
        refuses to say.
        """
        current = self._current
        if current is None:
            raise LedgerError("A writer without current settings cannot change settings.")
        asked_at = time.monotonic()
        known = self._memory.tokens

        def read(connection: Connection) -> Surroundings:
            return read_surroundings(connection, self._partition, current, commands, known)

        around = self._link.insisting(commands, read)
        if around is None:
            return
        self._memory.read(around, asked_at)
        settled = draft.add(commands, around)
        answer(settled.folds, {})
        if settled.replays:
            self._answer_again(settled.replays)

    def mark_sent(self, commands: Sequence[AnyCommand]) -> bool:
        """Note that all are about to be sent; where one gave up just now, none is, yet."""
        if all(command.mark_sent() for command in commands):
            return True
        self.requeue(commands)
        return False

    def requeue(self, commands: Sequence[AnyCommand]) -> None:
        for command in commands:
            command.mark_unsent()
        self._queue.put_back([command for command in commands if not command.settled])

    def settle(
        self, commands: Sequence[SettingsCommand], folds: Sequence[SiteFold], positions: Positions
    ) -> None:
        """Answer the commands of the sites that the log took; the others run again, in order."""
        if positions:
            self._doorbell.ring()
        if moved := answer(folds, positions):
            self.requeue([command for command in commands if command.originator_id in moved])

    def _answer_again(self, replays: Sequence[tuple[SettingsCommand, int]]) -> None:
        """Answer repeated requests with what their first time gave."""
        commands = [command for command, _ in replays]
        places = {(command.originator_id, version) for command, version in replays}

        def read(connection: Connection) -> dict[tuple[UUID, int], SettingsRecord]:
            return eventlog.records_at(connection, self._partition, places)

        try:
            records = self._link.insisting(commands, read)
        except LedgerError as error:
            # It is no matter of those who are decided with them.
            for command in commands:
                command.fail(error)
            return
        if records is None:
            return
        for command, version in replays:
            record = records.get((command.originator_id, version))
            if record is None:
                command.fail(NotFound("version", version))
            else:
                command.succeed(record.copy(record.position))

    def _run_append(self, command: AppendCommand) -> None:
        originators = list({UUID(str(event.originator_id)) for event in command.events})

        def read(connection: Connection) -> dict[UUID, eventlog.Head]:
            return eventlog.read_heads(connection, self._partition, originators)

        heads = self._link.insisting([command], read)
        if heads is None:
            return
        try:
            events = chain(command.events, heads)
        except IntegrityError as error:
            command.fail(error)
            return
        if self._current is not None:
            refuse_unknown(events)
        bases = {key: heads[key].leaf_hash if key in heads else None for key in originators}
        if not self.mark_sent([command]):
            return
        offer = Offer(events, bases, together=True, current=self._current is not None)
        said = self._link.answer([command], offer.parameters(self._partition))
        if said is None:
            return
        positions, _ = offer.landed(said)
        self._memory.forget()
        if len(positions) < len(events):
            self.requeue([command])
            return
        self._doorbell.ring()
        command.succeed([positions[e.originator_id, e.originator_version] for e in events])

    def answer_to(self, flight: Flight) -> Positions | None:
        said = self._link.answer(flight.commands, flight.parameters)
        if said is None:
            return None
        positions, clock = flight.offer.landed(said)
        self._memory.appended(positions, len(flight.offer.events))
        # What took long may have been sent again in between, and the clock read only then.
        if time.monotonic() - flight.offered_at < LONGEST_READING:
            self._memory.note_clock(clock, flight.offered_at)
        return positions
