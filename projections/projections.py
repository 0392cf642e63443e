"""All projections together: how far they are, following the log, rebuilding and checking them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from ledger.database import Database
from ledger.errors import ConfigError, LedgerCorrupt, NotFound, UnknownTopic
from projections import check, rebuild, status
from projections.check import Checked
from projections.current import CurrentSettingsTable
from projections.follow import Follower
from projections.history import SettingsHistoryTable
from projections.rebuild import Rebuilt
from projections.status import ProjectionStatus

Progress = Callable[[int, int], None]


class Projections:
    """What an operator does with projections; ``names`` are those there are."""

    def __init__(
        self,
        database: Database,
        current: CurrentSettingsTable,
        history: SettingsHistoryTable,
        partitions: Callable[[], Sequence[int]],
        owner_url: Callable[[], str | None],
    ) -> None:
        self._database = database
        self._current = current
        self._history = history
        self._partitions = partitions
        self._owner_url = owner_url

    @property
    def names(self) -> list[str]:
        """The projections that there are."""
        return [self._current.name, self._history.name]

    def follower(self) -> Follower:
        """A follower of the log, for one thread."""
        return Follower(self._database, [self._history], self._partitions)

    def follow(self, stop: threading.Event) -> None:
        """Keep up with the log until ``stop`` is set, or wait for whoever does; see Follower."""
        self.follower().run(stop)

    async def follow_beside(self, stop: asyncio.Event) -> None:
        """The same beside a server, in a thread; what cannot be followed stops no server."""
        halt = threading.Event()
        following = asyncio.create_task(asyncio.to_thread(self._follow_quietly, halt))
        try:
            await stop.wait()
        finally:
            halt.set()
            await following

    def _follow_quietly(self, halt: threading.Event) -> None:
        # The follower has said in the log what it cannot read; readers say it as well.
        with suppress(UnknownTopic, LedgerCorrupt):
            self.follow(halt)

    def status(self) -> list[ProjectionStatus]:
        """How far each projection is on each partition."""
        return status.status(
            self._database, self._partitions(), self._current.name, [self._history.name]
        )

    def rebuild(self, name: str, progress: Progress | None = None) -> Rebuilt:
        """Make a projection anew from the log while it is read, and put it in the old one's place.

        Needs the role that owns the tables. Raises NotFound for a name there is not, ConfigError
        without the owner, or where it is being rebuilt already.
        """
        if name == self._current.name:
            raise ConfigError(
                f"{name} changes with the log itself and is never behind it; "
                "`projections check` compares it with the log."
            )
        if name != self._history.name:
            raise NotFound("projection", name)
        owner_url = self._owner_url()
        if owner_url is None:
            raise ConfigError(
                "A rebuild needs the role that owns the tables: set LEDGER_MIGRATION_URL."
            )
        with Database(owner_url, pool_size=rebuild.CONNECTIONS) as owner:
            return rebuild.rebuild(owner, self._history, self._partitions(), progress)

    def check(self, progress: Progress | None = None) -> list[Checked]:
        """Compare every projection with the fold of the log, and name the first difference."""
        return check.check(
            self._database, self._partitions(), self._current, self._history, progress
        )
