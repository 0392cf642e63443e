"""A batch on its way: decided command by command, offered to the log, and answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from ledger.aggregate import SettingsRecord
from ledger.batch import Offer, Positions
from ledger.commands import SettingsCommand
from ledger.folding import SiteFold, Surroundings
from ledger.mapper import SettingsMapper


@dataclass
class Settled:
    """What was decided without an event."""

    folds: list[SiteFold] = field(default_factory=list)
    """Sites that have only answers."""
    replays: list[tuple[SettingsCommand, int]] = field(default_factory=list)
    """Repeated requests, and the version that the first time gave."""


@dataclass
class Draft:
    """The batch that is being decided; it may grow until it is offered."""

    partition: int
    commands: list[SettingsCommand] = field(default_factory=list)
    folds: dict[UUID, SiteFold] = field(default_factory=dict)
    _stamps: list[datetime] = field(default_factory=list)
    _mapper: SettingsMapper = field(default_factory=SettingsMapper)

    def add(self, commands: Sequence[SettingsCommand], around: Surroundings) -> Settled:
        """Decide more commands, in order of arrival. Gives back what needs no event of theirs."""
        settled = Settled()
        self.commands += commands
        # The clock that is carried on may be ahead of the one that is read.
        stamps = [*self._stamps, around.now]
        self._stamps = [min(stamps), max(stamps)]
        for command in commands:
            replay = self._fold(command.originator_id, around).decide(command, around)
            if replay is not None:
                settled.replays.append((command, replay.version))
        for key in [key for key, fold in self.folds.items() if not fold.events]:
            settled.folds.append(self.folds.pop(key))
        if settled.replays or settled.folds:
            self.commands = [command for fold in self.folds.values() for command in fold.commands]
        return settled

    def _fold(self, key: UUID, around: Surroundings) -> SiteFold:
        fold = self.folds.get(key)
        if fold is None:
            record, aggregate = around.records.get(key), around.aggregates.get(key)
            fold = SiteFold(self.partition, key, record, self._mapper, aggregate)
            self.folds[key] = fold
        return fold

    @property
    def size(self) -> int:
        """The bytes of its events."""
        return sum(len(event.state) for fold in self.folds.values() for event in fold.events)

    def flight(self) -> Flight:
        """What is offered of it."""
        folds = list(self.folds.values())
        offer = Offer.of(folds, (self._stamps[0], self._stamps[-1]))
        return Flight(
            commands=self.commands,
            folds=folds,
            offer=offer,
            parameters=offer.parameters(self.partition),
        )


@dataclass(frozen=True)
class Flight:
    """Changes that are offered to the log, and who waits for them."""

    commands: Sequence[SettingsCommand]
    folds: Sequence[SiteFold]
    offer: Offer
    parameters: Sequence[bytes | None]
    offered_at: float = field(default_factory=time.monotonic)


def answer(folds: Sequence[SiteFold], positions: Positions) -> set[UUID]:
    """Answer the commands of the sites whose events the log has; the others' ids.

    Somebody else changed those meanwhile: their commands run again.
    """
    moved: set[UUID] = set()
    for fold in folds:
        newest = fold.events[-1].originator_version if fold.events else None
        if newest is not None and (fold.originator_id, newest) not in positions:
            moved.add(fold.originator_id)
            continue
        for command, found in fold.answers:
            if isinstance(found, SettingsRecord):
                place = positions.get((fold.originator_id, found.version), found.position)
                command.succeed(found.copy(place))
            else:
                command.fail(found)
    return moved
