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
from ledger.folding import Replay, SiteFold, Surroundings
from ledger.mapper import SettingsMapper


@dataclass
class Draft:
    """The batch that is being decided; it may grow until it is offered."""

    partition: int
    commands: list[SettingsCommand] = field(default_factory=list)
    folds: dict[UUID, SiteFold] = field(default_factory=dict)
    _stamps: list[datetime] = field(default_factory=list)
    _mapper: SettingsMapper = field(default_factory=SettingsMapper)

    def add(self, commands: Sequence[SettingsCommand], around: Surroundings) -> None:
        """Decide more commands, in order of arrival."""
        self.commands += commands
        self._stamps = [*self._stamps[:1], around.now]
        for command in commands:
            key = command.originator_id
            fold = self.folds.get(key)
            if fold is None:
                fold = SiteFold(self.partition, key, around.records.get(key), self._mapper)
                self.folds[key] = fold
            fold.decide(command, around)

    def flight(self) -> Flight:
        """What is offered of it: the sites that have events."""
        folds = {key: fold for key, fold in self.folds.items() if fold.events}
        offer = Offer.of(list(folds.values()), (self._stamps[0], self._stamps[-1]))
        return Flight(
            commands=[command for command in self.commands if command.originator_id in folds],
            folds=list(folds.values()),
            offer=offer,
            parameters=offer.parameters(self.partition),
        )

    def undisputed(self) -> list[SiteFold]:
        """The sites that have no events, only answers."""
        return [fold for fold in self.folds.values() if not fold.events]


@dataclass(frozen=True)
class Flight:
    """Changes that are offered to the log, and who waits for them."""

    commands: Sequence[SettingsCommand]
    folds: Sequence[SiteFold]
    offer: Offer
    parameters: Sequence[bytes | None]
    offered_at: float = field(default_factory=time.monotonic)


@dataclass
class Unanswered:
    """Whom ``answer`` could not answer."""

    moved: set[UUID] = field(default_factory=set)
    """The sites that somebody else changed meanwhile: their commands run again."""
    replays: list[tuple[SettingsCommand, int]] = field(default_factory=list)
    """Repeated requests, and the version that the first time gave."""


def answer(folds: Sequence[SiteFold], positions: Positions) -> Unanswered:
    """Answer the commands of the sites whose events the log has."""
    left = Unanswered()
    for fold in folds:
        newest = fold.events[-1].originator_version if fold.events else None
        if newest is not None and (fold.originator_id, newest) not in positions:
            left.moved.add(fold.originator_id)
            continue
        for command, found in fold.answers:
            if isinstance(found, SettingsRecord):
                place = positions.get((fold.originator_id, found.version), found.position)
                command.succeed(found.copy(place))
            elif isinstance(found, Replay):
                left.replays.append((command, found.version))
            else:
                command.fail(found)
    return left
