"""The writer of a partition: all waiting changes as one transaction (group commit, folding)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger import eventlog
from ledger.aggregate import SettingsRecord
from ledger.batch import CurrentSettings, Offer, Positions, read_surroundings
from ledger.commandqueue import CommandQueue
from ledger.commands import AnyCommand, AppendCommand, SettingsCommand
from ledger.database import Connection, Database
from ledger.doorbell import Doorbell
from ledger.errors import ChangeRefused, LedgerError, OutcomeUnknown
from ledger.folding import (
    Replay,
    SiteFold,
    chain,
    fold_batch,
    placed,
    refuse_unknown,
)
from ledger.link import Link

logger = logging.getLogger(__name__)

MOST_PER_BATCH = 512
EXPIRY_INTERVAL = 0.1


class Writer:
    """Records what callers hand in, one batch in flight at a time.

    A batch is read, folded and offered to the log as one transaction. What the log took is
    answered; a site that someone else moved meanwhile runs again in the next batch. When the
    connection breaks after sending, the identical bytes are offered again until the log says
    whether it has them. Safe to use from any number of threads.
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
        self._current = current
        self._doorbell = doorbell
        self._queue = CommandQueue(queue_size)
        self._in_flight: Sequence[AnyCommand] = ()
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._finished = threading.Event()

    def submit(self, command: AnyCommand) -> None:
        """Queue a command; its future is settled by its deadline. Raises Unavailable."""
        if not self._threads:
            self._start()
        self._queue.put(command)

    def close(self) -> None:
        """Record what waits, then stop. Whatever cannot be recorded ends at its deadline."""
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
        while not self._queue.drained:
            batch = self._queue.take(MOST_PER_BATCH)
            self._in_flight = batch
            self._run(batch)
            self._in_flight = ()
        self._link.disconnect()
        self._finished.set()

    def _expire_loop(self) -> None:
        while not self._finished.wait(EXPIRY_INTERVAL):
            now = time.monotonic()
            for command in [*self._queue.expired(now), *self._in_flight]:
                if command.deadline <= now:
                    command.expire()

    def _run(self, batch: Sequence[AnyCommand]) -> None:
        """Record one batch; what could not be decided goes back to the front of the queue."""
        batch = [command for command in batch if not command.settled]
        if not batch:
            return
        try:
            if isinstance(batch[0], AppendCommand):
                self._run_append(batch[0])
            else:
                self._run_settings([c for c in batch if isinstance(c, SettingsCommand)])
        except ChangeRefused as error:
            self._split(batch, error)
        except LedgerError as error:
            for command in batch:
                command.fail(error)
        except Exception:
            # A mistake of ours over one command must not cost the others theirs.
            logger.exception("the writer of partition %d failed on a batch", self.partition)
            self._link.disconnect()
            if any(command.sent for command in batch):
                for command in batch:
                    command.fail(OutcomeUnknown("The change failed in an unforeseen way."))
            else:
                self._split(batch, LedgerError("The change failed in an unforeseen way."))

    def _split(self, batch: Sequence[AnyCommand], error: LedgerError) -> None:
        """Run halves of a batch that was refused, until the culprit stands alone."""
        for command in batch:
            command.mark_unsent()
        if len(batch) == 1:
            batch[0].fail(error)
            return
        middle = len(batch) // 2
        self._run(batch[:middle])
        self._run(batch[middle:])

    def _run_settings(self, commands: Sequence[SettingsCommand]) -> None:
        current = self._current
        if current is None:
            raise LedgerError("A writer without current settings cannot change settings.")
        around = self._link.insisting(
            commands, lambda link: read_surroundings(link, self.partition, current, commands)
        )
        if around is None:
            return
        folds = fold_batch(self.partition, commands, around)
        offered = [fold for fold in folds if fold.events]
        self._settle(commands, [fold for fold in folds if not fold.events], {})
        positions: Positions | None = {}
        if offered:
            sent = [command for fold in offered for command in fold.commands]
            if not self._mark_sent(sent):
                return
            positions = self._send(sent, Offer.of(offered, (around.now, around.now)))
        if positions is not None:
            self._settle(commands, offered, positions)

    def _send(self, commands: Sequence[AnyCommand], offer: Offer) -> Positions | None:
        answer = self._link.append(commands, offer.parameters(self.partition))
        return None if answer is None else offer.positions(answer)

    def _mark_sent(self, commands: Sequence[AnyCommand]) -> bool:
        """Note that all are about to be sent; where one gave up just now, none is, yet."""
        if all(command.mark_sent() for command in commands):
            return True
        self._requeue(commands)
        return False

    def _requeue(self, commands: Sequence[AnyCommand]) -> None:
        for command in commands:
            command.mark_unsent()
        self._queue.put_back([command for command in commands if not command.settled])

    def _settle(
        self, commands: Sequence[SettingsCommand], folds: Sequence[SiteFold], positions: Positions
    ) -> None:
        """Answer the commands of the sites that the log took; the others run again, in order."""
        moved: set[UUID] = set()
        replays: list[tuple[SettingsCommand, int]] = []
        if positions:
            self._doorbell.ring()
        for fold in folds:
            if fold.events and (fold.originator_id, fold.events[-1].originator_version) not in (
                positions
            ):
                moved.add(fold.originator_id)
                continue
            for command, answer in fold.answers:
                if isinstance(answer, SettingsRecord):
                    place = positions.get((fold.originator_id, answer.version), answer.position)
                    command.succeed(placed(answer, place))
                elif isinstance(answer, Replay):
                    replays.append((command, answer.version))
                else:
                    command.fail(answer)
        if moved:
            self._requeue([command for command in commands if command.originator_id in moved])
        # Last, since it asks the database: whoever was recorded has the answer by now.
        for command, version in replays:
            self._answer_again(command, version)

    def _answer_again(self, command: SettingsCommand, version: int) -> None:
        """Answer a repeated request with what its first time gave."""

        def read(connection: Connection) -> SettingsRecord:
            return eventlog.record_at(connection, self.partition, command.originator_id, version)

        record = self._link.insisting([command], read)
        if record is not None:
            command.succeed(record)

    def _run_append(self, command: AppendCommand) -> None:
        originators = list({UUID(str(event.originator_id)) for event in command.events})

        def read(connection: Connection) -> dict[UUID, eventlog.Head]:
            return eventlog.read_heads(connection, self.partition, originators)

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
        if not self._mark_sent([command]):
            return
        offer = Offer(events, bases, together=True, current=self._current is not None)
        positions = self._send([command], offer)
        if positions is None:
            return
        if len(positions) < len(events):
            self._requeue([command])
            return
        self._doorbell.ring()
        command.succeed([positions[e.originator_id, e.originator_version] for e in events])
