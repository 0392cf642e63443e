"""Requests in flight: made while the feed may, counted so that it can end cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from ledger.errors import LedgerError
from ledger.publisher.breaker import PROBES, Breaker
from ledger.publisher.deliver import Courier
from ledger.publisher.journal import Attempt
from ledger.publisher.letters import Letter
from ledger.publisher.metrics import ATTEMPTS, LATENCY
from ledger.publisher.policy import Policy
from ledger.publisher.sink import REPLAY_HEADER, Outcome, Parcel
from ledger.publisher.spans import Span

log = structlog.get_logger(__name__)

_RECEIVED, _REFUSED, _FAILED = map(ATTEMPTS.labels, ("received", "refused", "failed"))

RECOVERY_PAUSE = 1.0
"""Seconds to wait after trouble of our own, such as no database."""

PATIENCE = 0.01
"""Seconds for which sending waits until enough was received for a write to be worth it."""

LEASE_PAUSE = 0.05
"""Seconds to wait for a lease to be renewed, or lost."""


class Slots:
    """How many requests a subscription may have in flight: live ones, and retries apart from them.

    Kept apart so that sites that hang on every retry never hold up the others. Both share the
    limit of attempts per second, of which this process has its part where several serve the
    subscription.
    """

    def __init__(
        self,
        policy: Policy,
        probes: Sequence[float] = PROBES,
        hurry: Callable[[], None] | None = None,
    ) -> None:
        self.breaker = Breaker(policy.in_flight, probes)
        self.live = asyncio.Semaphore(policy.in_flight)
        self.retries = asyncio.Semaphore(policy.retries_in_flight)
        self._hurry = hurry
        self._most_open = policy.in_flight + policy.retries_in_flight
        self._room = asyncio.Semaphore(self._most_open)
        self._received = 0
        self._patience: asyncio.TimerHandle | None = None
        self._whole = policy.per_second
        self._interval = 0.0
        self.share(1)
        self._next = 0.0

    @property
    def per_second(self) -> float | None:
        """How many attempts a second this process may make."""
        return 1 / self._interval if self._interval else None

    def share(self, processes: int) -> None:
        """So many processes have feeds of the subscription."""
        if self._whole is not None:
            self._interval = max(1, processes) / self._whole

    async def begin(self) -> None:
        """Wait until so few events are open that a crash repeats no more than may be in flight.

        Open is what is in flight, and what was received and is not written down yet; ``hurry``
        asks for that, as soon as it is worth it. Without it nobody waits: whoever goes step by
        step also writes when it likes.
        """
        if self._hurry is None:
            return
        if self._room.locked() and self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(PATIENCE, self._hurry)
        await self._room.acquire()

    def end(self, *, received: bool) -> None:
        """One that failed may come again at any time; one that was received must be written."""
        if not received:
            self._close(1)
            return
        self._received += 1
        if self._hurry is not None and self._received * 2 >= self._most_open:
            self._hurry()

    def collect(self) -> int:
        """How many were received since the last time; ``written`` is to be told when they are."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        received, self._received = self._received, 0
        return received

    def written(self, count: int) -> None:
        """So many of those that were received will not be sent again."""
        self._close(count)

    def _close(self, count: int) -> None:
        for _ in range(count):
            self._room.release()

    async def pace(self) -> None:
        """Wait for one's turn, where there is a limit per second."""
        if self._interval:
            now = asyncio.get_running_loop().time()
            self._next = max(now, self._next + self._interval)
            await asyncio.sleep(self._next - now)


class Attempts:
    """Makes a feed's attempts until it is closed."""

    def __init__(
        self,
        courier: Courier,
        policy: Policy,
        slots: Slots,
        changed: Callable[[], None],
        holds_for: Callable[[float], bool],
    ) -> None:
        self.gone: str | None = None
        self.made: list[Attempt] = []
        self._courier = courier
        self._policy = policy
        self._slots = slots
        self._changed = changed
        self._holds_for = holds_for
        self._closed = False
        self._in_flight = 0
        self._none_in_flight = asyncio.Event()
        self._none_in_flight.set()

    async def make(self, span: Span, letter: Letter, *, fresh: bool) -> Outcome:
        """One attempt that counts; ``fresh`` says that it is the letter's first.

        Waits while the endpoint as a whole fails: what comes of a probe that fails is the
        endpoint's, not the letter's. Once closed, nothing is sent any more: the task that asks
        is cancelled. So it is where the receiver says that it is gone; ``gone`` then says so.
        """
        breaker = self._slots.breaker
        while True:
            probe = await breaker.enter(fresh=fresh)
            try:
                outcome = await self._whenever_possible(span, letter)
            except BaseException:
                breaker.abandon(probe=probe)
                raise
            breaker.leave(outcome.problem, letter.originator_id, probe=probe, fresh=fresh)
            if outcome.gone:
                self.gone = outcome.problem
                self._closed = True
                self._changed()
                raise asyncio.CancelledError
            if outcome.received or not probe:
                return outcome
            self._changed()

    async def _whenever_possible(self, span: Span, letter: Letter) -> Outcome:
        """Trouble of our own is waited out and never counted as the receiver's."""
        marks = {REPLAY_HEADER: str(span.feed_id)} if span.replay else {}
        while True:
            await self._slots.pace()
            if self._closed:
                raise asyncio.CancelledError
            try:
                parcel = await self._courier.sign(span, letter, marks)
                outcome = await self._in_turn(span, letter, parcel)
            except LedgerError as error:
                log.warning(
                    "publisher waits", subscription=str(span.subscription_id), problem=str(error)
                )
                await asyncio.sleep(RECOVERY_PAUSE)
                continue
            if outcome is not None:
                return outcome
            await asyncio.sleep(LEASE_PAUSE)

    async def _in_turn(self, span: Span, letter: Letter, parcel: Parcel) -> Outcome | None:
        """Send it when there is room; None, unsent, where it could outlive the lease.

        Judged last, with nothing to wait for before it is sent: another process could send
        beside it.
        """
        await self._slots.begin()
        received = False
        try:
            if self._closed:
                raise asyncio.CancelledError
            if not self._holds_for(self._policy.timeout):
                return None
            outcome = await self._counted(span, letter, parcel)
            received = outcome.received
            return outcome
        finally:
            self._slots.end(received=received)

    async def _counted(self, span: Span, letter: Letter, parcel: Parcel) -> Outcome:
        self._in_flight += 1
        self._none_in_flight.clear()
        try:
            at = datetime.now(UTC)
            outcome = await self._courier.send(parcel, self._policy)
            self._note(span, letter, at, outcome)
            return outcome
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._none_in_flight.set()

    def _note(self, span: Span, letter: Letter, at: datetime, outcome: Outcome) -> None:
        self.made.append(
            Attempt(
                at,
                *span.key,
                letter.position,
                outcome.seconds * 1000,
                outcome.status,
                outcome.problem,
            )
        )
        LATENCY.observe(outcome.seconds)
        if outcome.received:
            _RECEIVED.inc()
        else:
            (_FAILED if outcome.status is None else _REFUSED).inc()

    async def close(self, grace: float) -> None:
        """Start nothing more, and wait up to ``grace`` seconds for what is under way.

        Whoever waited for an attempt has recorded its outcome when this returns.
        """
        self._closed = True
        if self._in_flight == 0:
            return
        try:
            await asyncio.wait_for(self._none_in_flight.wait(), grace)
        except TimeoutError:
            if self._in_flight:
                log.info("publisher leaves requests behind", in_flight=self._in_flight)
