"""Lanes: sites that wait, for one subscription, and the schedule on which they are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from ledger.publisher.attempts import RECOVERY_PAUSE, Attempts, Slots
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Courier
from ledger.publisher.letters import Letter, LetterReader, Reading
from ledger.publisher.policy import Policy
from ledger.publisher.sink import Outcome
from ledger.publisher.spans import Span
from ledger.publisher.state import DeadLetter, Progress, WaitingSite
from ledger.publisher.tasks import Tasks

log = structlog.get_logger(__name__)

CATCH_UP = 32
"""Versions that a lane reads at once when its receiver answers again."""

LaneKey = tuple[UUID, int]
"""An originator, and the one version that the lane retries alone, or 0."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every feed of a publisher works with."""

    reader: LetterReader
    courier: Courier
    blocking: BlockingCalls
    changed: Callable[[], None]
    holds_for: Callable[[float], bool]


@dataclass(slots=True)
class Desk:
    """What a feed and its lanes share; ``span`` is the latest word on the subscription."""

    span: Span
    policy: Policy
    slots: Slots
    attempts: Attempts
    tools: Tools
    tasks: Tasks


class Lane:
    """Holds the first version of a site that the receiver lacks; the rest stays in the log.

    ``behind_until`` is the last position that the feed passed over because of this lane.
    ``due`` is on the event loop's monotonic clock; ``busy`` while a request may be in flight.
    One that is ``alone`` retries its one version and holds up nothing.
    """

    def __init__(
        self, originator_id: UUID, version: int, behind_until: int, *, alone: bool = False
    ) -> None:
        self.key: LaneKey = (originator_id, version if alone else 0)
        self.originator_id = originator_id
        self.alone = alone
        self.version = version
        self.behind_until = behind_until
        self.failures = 0
        self.due = 0.0
        self.last_error = ""
        self.busy = False

    def fail(self, problem: str, delay: float, now: float) -> None:
        """Plan the next attempt at the same version."""
        self.failures += 1
        self.last_error = problem
        self.due = now + delay

    def go_on(self, version: int) -> None:
        """Everything before ``version`` is done with: it is due at once, with a fresh schedule."""
        self.version = version
        self.failures = 0
        self.due = 0.0
        self.last_error = ""


class Lanes:
    """The lanes of one feed."""

    def __init__(self, desk: Desk) -> None:
        self.received = 0
        self.failed = 0
        self._desk = desk
        self._lanes: dict[LaneKey, Lane] = {}
        self._dirty: set[LaneKey] = set()
        self._dead: list[DeadLetter] = []

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, originator_id: UUID) -> Lane | None:
        """The lane that holds the site back, while it has one."""
        return self._lanes.get((originator_id, 0))

    @property
    def quiet(self) -> bool:
        """Whether every lane waits for its time."""
        now = _now()
        return all(not lane.busy and lane.due > now for lane in self._lanes.values())

    def restore(self, stored: WaitingSite) -> None:
        """Go on with a lane that another run left.

        What it passed over is not known any more: everything that was read may be.
        """
        span = self._desk.span
        read_to = span.beyond[-1] if span.beyond else span.position
        lane = Lane(stored.originator_id, stored.version, read_to, alone=bool(stored.alone))
        lane.failures = stored.failures
        lane.due = _now() + stored.seconds
        lane.last_error = stored.last_error
        self._lanes[lane.key] = lane
        self._desk.tasks.spawn(self._walk(lane))

    def open(self, originator_id: UUID, version: int, behind_until: int) -> Lane:
        """A lane that begins with ``version``, whose live attempt is still under way or just over.

        It stands still until ``settle`` says what came of that.
        """
        lane = Lane(originator_id, version, behind_until)
        lane.busy = True
        self._lanes[lane.key] = lane
        self._dirty.add(lane.key)
        return lane

    def settle(self, lane: Lane, letter: Letter, outcome: Outcome) -> None:
        """Record what came of the live attempt and let the lane go on from there."""
        self._record(lane, letter, outcome)
        lane.busy = False
        self._desk.tasks.spawn(self._walk(lane))

    def set_aside(self, letter: Letter, outcome: Outcome) -> None:
        """Retry a letter that failed by itself; its site goes on."""
        lane = Lane(letter.originator_id, letter.version, letter.position, alone=True)
        self._lanes[lane.key] = lane
        self._record(lane, letter, outcome)
        self._desk.tasks.spawn(self._walk(lane))

    def end(self) -> None:
        """Give up every lane, as those of a deleted subscription are."""
        for lane in list(self._lanes.values()):
            if not lane.busy:
                self._close(lane)

    def collect(self, progress: Progress) -> None:
        """Add what changed since the last time."""
        now = _now()
        for key in self._dirty:
            lane = self._lanes.get(key)
            if lane is None:
                progress.caught_up.append(key)
            else:
                progress.waiting.append(_as_stored(self._desk.span, lane, now))
        self._dirty.clear()
        progress.dead += self._dead
        self._dead.clear()
        progress.received += self.received
        progress.failed += self.failed
        self.received = self.failed = 0

    async def _walk(self, lane: Lane) -> None:
        """Retry until the site has caught up with the feed, then leave it to the feed again."""
        while self._lanes.get(lane.key) is lane:
            if self._desk.span.deleted:
                self._close(lane)
                return
            await asyncio.sleep(lane.due - _now())
            async with self._desk.slots.retries:
                lane.busy = True
                try:
                    await self._work_off(lane)
                except Exception as error:  # noqa: BLE001 — said, and tried again after a pause
                    log.warning(
                        "publisher waits",
                        **self._names(lane),
                        problem=f"{type(error).__name__}: {error}",
                    )
                    lane.due = _now() + RECOVERY_PAUSE
                finally:
                    lane.busy = False
                    self._desk.tools.changed()

    async def _work_off(self, lane: Lane) -> None:
        """Deliver what the lane holds, until an attempt fails or nothing is left."""
        if self._desk.span.deleted or self._lanes.get(lane.key) is not lane:
            return  # It ended while this waited for its time.
        until = lane.behind_until
        reading = await self._read(lane, until)
        if reading.unknown is not None:
            raise reading.unknown
        for letter in reading.letters:
            outcome = await self._desk.attempts.make(self._desk.span, letter, fresh=False)
            self._record(lane, letter, outcome)
            if lane.failures or self._desk.span.deleted:
                return
        if lane.alone:
            self._close(lane)
        elif reading.events:
            lane.go_on(reading.last_version + 1)
            self._dirty.add(lane.key)
        elif lane.behind_until == until:
            self._close(lane)

    async def _read(self, lane: Lane, until: int) -> Reading:
        """What is to be sent next: the version that failed, all that wait, or the newest."""
        reader, span = self._desk.tools.reader, self._desk.span
        if self._desk.policy.collapses and not lane.alone:
            return await self._desk.tools.blocking.run(
                reader.newest_of_site, span, lane.originator_id, lane.version, until
            )
        return await self._desk.tools.blocking.run(
            reader.of_site,
            span,
            lane.originator_id,
            lane.version,
            until,
            1 if lane.failures or lane.alone else CATCH_UP,
        )

    def _close(self, lane: Lane) -> None:
        del self._lanes[lane.key]
        self._dirty.add(lane.key)
        self._desk.tools.changed()

    def _record(self, lane: Lane, letter: Letter, outcome: Outcome) -> None:
        self._dirty.add(lane.key)
        self._desk.tools.changed()
        if outcome.problem is None:
            self.received += 1
            lane.go_on(letter.version + 1)
            return
        if not self._desk.policy.holds_back and not lane.alone:
            self.set_aside(letter, outcome)
            lane.go_on(letter.version + 1)
            return
        self.failed += 1
        attempts = lane.failures + 1
        delay = self._desk.policy.delay_after(attempts, outcome.retry_after)
        if delay is None:
            self._dead.append(_dead_letter(self._desk.span, letter, attempts, outcome.problem))
            lane.go_on(letter.version + 1)
        else:
            lane.fail(outcome.problem, delay, _now())

    def _names(self, lane: Lane) -> dict[str, object]:
        return {
            "subscription": str(self._desk.span.subscription_id),
            "partition": self._desk.span.partition,
            "entity": str(lane.originator_id),
        }


def _as_stored(span: Span, lane: Lane, now: float) -> WaitingSite:
    seconds = max(0.0, lane.due - now)
    return WaitingSite(
        *span.key,
        *lane.key,
        lane.version,
        lane.failures,
        seconds,
        lane.last_error,
    )


def _dead_letter(span: Span, letter: Letter, attempts: int, problem: str) -> DeadLetter:
    return DeadLetter(
        span.subscription_id,
        span.partition,
        letter.position,
        letter.originator_id,
        letter.version,
        attempts,
        problem,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
