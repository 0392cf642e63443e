"""What a writer knows without asking: what its own last append left, who acts, and the time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from ledger.actors import SiteIdentity
from ledger.aggregate import SettingsRecord, SiteSettings, Token
from ledger.commands import SettingsCommand
from ledger.folding import SiteFold, Surroundings

LARGEST = 10_000
"""Sites that are kept, those that changed last; and as many people, those that were met last."""
CLOCK_LIFE = 0.5
"""Seconds for which a reading of the database's clock is carried on by our own."""
BETTER_READING = 0.25
"""Seconds after which a reading is replaced by one that may be less exact."""
REST = 16
"""Batches without a foreign append between before anything is relied on again."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memory:
    """A shortcut, and no authority: the log compares leaves and looks for whom events refer to.

    It serves while this writer is the only one on its partition. An append that does not begin
    where the last one ended shows that there is another, and then each batch asks again.
    """

    def __init__(self) -> None:
        self._records: dict[UUID, SettingsRecord] = {}
        self._aggregates: dict[UUID, SiteSettings] = {}
        self._tokens: dict[SiteIdentity, Token] = {}
        self._clock: tuple[datetime, float] | None = None
        self._head: int | None = None
        self._rest = 0

    @property
    def serves(self) -> bool:
        """Whether anything may be relied on now."""
        if self.contested or self._clock is None:
            return False
        return time.monotonic() - self._clock[1] <= CLOCK_LIFE

    @property
    def contested(self) -> bool:
        """Whether another process appends to the partition as well."""
        return self._rest > 0

    def covers(self, command: SettingsCommand) -> bool:
        """Whether all that this command's decision rests on is known; only while it ``serves``."""
        # What can end as a refusal, or as the answer of an earlier time, must not rest on what
        # may be outdated: nothing would be offered that the log could refuse.
        return (
            command.patch is not None
            and command.if_match is None
            and command.idempotency is None
            and command.originator_id in self._records
            and all(pair in self._tokens for pair in command.identities)
        )

    @property
    def tokens(self) -> Mapping[SiteIdentity, Token]:
        """Who is known, also while it does not serve: an append refuses those who were erased."""
        return self._tokens

    def surroundings(self) -> Surroundings:
        """What ``covers`` said yes to."""
        now = self._now(time.monotonic())
        return Surroundings(now, self._records, {}, self._tokens, self._aggregates)

    def read(self, around: Surroundings, asked_at: float) -> None:
        """Take in what was read for a batch, asked for at ``asked_at`` (monotonic seconds)."""
        self._tokens |= around.tokens
        _drop_oldest(self._tokens)
        self.note_clock(around.now, asked_at)

    def remember(self, folds: Iterable[SiteFold]) -> None:
        """Rely from now on on what these sites will be when their events are in the log."""
        for fold in folds:
            if fold.record is not None and fold.aggregate is not None:
                # Taken out first, so that what changed last stands last.
                self._records.pop(fold.originator_id, None)
                self._records[fold.originator_id] = fold.record
                self._aggregates.pop(fold.originator_id, None)
                self._aggregates[fold.originator_id] = fold.aggregate
        _drop_oldest(self._records)
        _drop_oldest(self._aggregates)

    def appended(self, positions: Mapping[tuple[UUID, int], int], offered: int) -> None:
        """Note where an append put ``offered`` events: elsewhere than behind the last one?"""
        places = positions.values()
        if len(positions) < offered or (self._head and min(places) != self._head + 1):
            self._rest = REST
        elif self._rest:
            self._rest -= 1
        self._head = max(places, default=self._head or 0)

    def forget(self, *, and_people: bool = True) -> None:
        """Know nothing of any site, and of nobody where asked for."""
        self._records.clear()
        self._aggregates.clear()
        if and_people:
            self._tokens.clear()

    def note_clock(self, clock: datetime, asked_at: float) -> None:
        """Take in what the database's clock showed at ``asked_at`` (monotonic seconds), or later.

        So what is carried on may be ahead of that clock by what it took to ask, and is never
        behind it: no change is stamped before it was asked for. The log waits out what is ahead.
        """
        known = self._clock
        if known is None or asked_at - known[1] > BETTER_READING or clock < self._now(asked_at):
            self._clock = (clock, asked_at)

    def _now(self, at: float) -> datetime:
        if self._clock is None:
            message = "the clock was never read"
            raise AssertionError(message)
        clock, read_at = self._clock
        return clock + timedelta(seconds=at - read_at)


def _drop_oldest(kept: dict[Key, Value]) -> None:
    while len(kept) > LARGEST:
        del kept[next(iter(kept))]
