"""What callers hand to a writer, and the answer they wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from ledger.aggregate import SettingsRecord, originator_id
from ledger.errors import LedgerError, OutcomeUnknown, Unavailable
from ledger.idempotency import Idempotency, KeyAddress
from ledger.identity import Identity, Provenance
from ledger.latch import Latch
from ledger.settings import SettingsKind

Answer = TypeVar("Answer")


@dataclass(eq=False, kw_only=True)
class Command(Generic[Answer]):
    """Work for a writer. Its future is settled by ``deadline`` (monotonic seconds), come what may.

    ``sent`` tells whether the database may have it: whoever gives up on a command that was
    sent learns that the outcome is unknown, otherwise that it was surely not recorded.
    """

    deadline: float
    future: Future[Answer] | Latch[Answer] = field(default_factory=Future)
    sent: bool = False
    _settling: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settled(self) -> bool:
        """Whether the caller has an answer, or left."""
        return self.future.done()

    def start(self) -> bool:
        """Take the command up; false where its caller has an answer, or left."""
        with self._settling:
            return self._start()

    def _start(self) -> bool:
        # The library refuses to start a future that has its result: one that expired as it waited.
        if self.future.done() and not self.future.cancelled():
            return False
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def mark_sent(self) -> bool:
        """From here on the database may have it; false where the caller has an answer already."""
        with self._settling:
            self.sent = not self.future.done()
            return self.sent

    def mark_unsent(self) -> None:
        """The database surely does not have it."""
        with self._settling:
            self.sent = False

    def succeed(self, answer: Answer) -> None:
        """Give the answer, unless the caller has one."""
        with self._settling:
            if not self.future.done():
                self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Give the error, unless the caller has an answer."""
        with self._settling:
            if not self.future.done():
                self.future.set_exception(error)

    def expire(self) -> None:
        """Give up: the deadline has passed."""
        with self._settling:
            if self.future.done() or not self._start():
                return
            self.future.set_exception(self._expiry())

    def _expiry(self) -> LedgerError:
        if self.sent:
            return OutcomeUnknown(
                "The database stopped answering while the change was being recorded; it may or "
                "may not be in the log. Repeat the request with the same Idempotency-Key."
            )
        return Unavailable("The database does not answer; the change was not recorded.")


@dataclass(eq=False, kw_only=True)
class SettingsCommand(Command[SettingsRecord]):
    """Change a site's settings of one kind, or (``patch`` None) just see that they exist.

    ``patch`` is validated. ``if_match`` names the versions that the caller accepts to change.
    """

    site_id: UUID
    kind: SettingsKind
    patch: dict[str, Any] | None
    provenance: Provenance
    if_match: Sequence[int] | None = None
    idempotency: Idempotency | None = None

    @cached_property
    def originator_id(self) -> UUID:
        """Whose settings."""
        return originator_id(self.site_id, self.kind.fqdn)

    @property
    def key_address(self) -> KeyAddress | None:
        """Where the idempotency key is kept."""
        if self.idempotency is None:
            return None
        return self.originator_id, self.idempotency.credential, self.idempotency.key_hash

    @property
    def identities(self) -> list[tuple[UUID, Identity]]:
        """Everyone whom the event will refer to, within the site."""
        named = (self.provenance.actor, self.provenance.on_behalf_of)
        return [(self.site_id, identity) for identity in named if identity is not None]


@dataclass(eq=False, kw_only=True)
class AppendCommand(Command[list[int]]):
    """Append finished events, all or none; the answer is their positions.

    Fails with the library's IntegrityError where a version is taken or would leave a gap.
    """

    events: Sequence[StoredEvent]


AnyCommand = SettingsCommand | AppendCommand


def deadline_in(seconds: float) -> float:
    """A deadline on the clock that never jumps."""
    return time.monotonic() + seconds
