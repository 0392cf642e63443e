"""Lanes: sites that wait, for one subscription, and the schedule on which they are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from ledger.publisher.attempts import RECOVERY_PAUSE, Attempts, Slots
from ledger.publisher.blocking import BlockingCalls
from ledger.publisher.deliver import Outcome
from ledger.publisher.letters import Letter, LetterReader
from ledger.publisher.policy import Policy
from ledger.publisher.state import Checkpoint, DeadLetter, FeedKey, Span, WaitingSite
from ledger.publisher.tasks import Tasks

log = structlog.get_logger(__name__)

CATCH_UP = 32
"""Versions that a lane reads at once when its receiver answers again."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every feed of a publisher works with."""

    reader: LetterReader
    attempts: Attempts
    policy: Policy
    blocking: BlockingCalls
    changed: Callable[[], None]


class Lane:
    """Holds the first version of a site that the receiver lacks; the rest stays in the log.

    ``behind_until`` is the last position that the feed passed over because of this lane.
    ``due`` is on the event loop's monotonic clock; ``busy`` while a request may be in flight.
    """

    def __init__(self, originator_id: UUID, version: int, behind_until: int) -> None:
        self.originator_id = originator_id
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

    def __init__(self, span: Span, slots: Slots, tools: Tools, tasks: Tasks) -> None:
        self.span = span
        self.received = 0
        self.failed = 0
        self._slots = slots
        self._tools = tools
        self._tasks = tasks
        self._lanes: dict[UUID, Lane] = {}
        self._dirty: set[UUID] = set()
        self._dead: list[DeadLetter] = []

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, originator_id: UUID) -> Lane | None:
        """The site's lane while it has one."""
        return self._lanes.get(originator_id)

    @property
    def quiet(self) -> bool:
        """Whether every lane waits for its time."""
        now = _now()
        return all(not lane.busy and lane.due > now for lane in self._lanes.values())

    def restore(self, stored: WaitingSite) -> None:
        """Go on with a lane that another run left.

        What it passed over is not known any more: everything up to the cursor may be.
        """
        lane = Lane(stored.originator_id, stored.version, self.span.position)
        lane.failures = stored.failures
        lane.due = _now() + stored.seconds
        lane.last_error = stored.last_error
        self._lanes[lane.originator_id] = lane
        self._tasks.spawn(self._walk(lane))

    def open(self, originator_id: UUID, version: int, behind_until: int) -> Lane:
        """A lane that begins with ``version``, whose live attempt is still under way or just over.

        It stands still until ``settle`` says what came of that.
        """
        lane = Lane(originator_id, version, behind_until)
        lane.busy = True
        self._lanes[originator_id] = lane
        self._dirty.add(originator_id)
        return lane

    def settle(self, lane: Lane, letter: Letter, outcome: Outcome) -> None:
        """Record what came of the live attempt and let the lane go on from there."""
        self._record(lane, letter, outcome)
        lane.busy = False
        self._tasks.spawn(self._walk(lane))

    def update(self, span: Span) -> None:
        """Take note of the subscription's present state; a deleted one is not retried."""
        self.span = span
        if span.deleted:
            for lane in list(self._lanes.values()):
                if not lane.busy:
                    self._close(lane)

    def collect(self, checkpoint: Checkpoint) -> None:
        """Add what changed since the last time."""
        now = _now()
        for originator_id in self._dirty:
            lane = self._lanes.get(originator_id)
            if lane is None:
                checkpoint.caught_up.append((self.span.key, originator_id))
            else:
                checkpoint.waiting.append(_as_stored(self.span.key, lane, now))
        self._dirty.clear()
        checkpoint.dead += self._dead
        self._dead.clear()

    async def _walk(self, lane: Lane) -> None:
        """Retry until the site has caught up with the feed, then leave it to the feed again."""
        while self._lanes.get(lane.originator_id) is lane:
            if self.span.deleted:
                self._close(lane)
                return
            await asyncio.sleep(lane.due - _now())
            async with self._slots.retries:
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
                    self._tools.changed()

    async def _work_off(self, lane: Lane) -> None:
        """Deliver what the lane holds, until an attempt fails or nothing is left."""
        if self.span.deleted or self._lanes.get(lane.originator_id) is not lane:
            return  # It ended while this waited for its time.
        until = lane.behind_until
        reading = await self._tools.blocking.run(
            self._tools.reader.of_site,
            self.span,
            lane.originator_id,
            lane.version,
            until,
            1 if lane.failures else CATCH_UP,
        )
        if reading.unknown is not None:
            raise reading.unknown
        for letter in reading.letters:
            self._record(lane, letter, await self._tools.attempts.make(self.span, letter))
            if lane.failures or self.span.deleted:
                return
        if reading.events:
            lane.go_on(reading.last_version + 1)
            self._dirty.add(lane.originator_id)
        elif lane.behind_until == until:
            self._close(lane)

    def _close(self, lane: Lane) -> None:
        del self._lanes[lane.originator_id]
        self._dirty.add(lane.originator_id)
        self._tools.changed()

    def _record(self, lane: Lane, letter: Letter, outcome: Outcome) -> None:
        self._dirty.add(lane.originator_id)
        self._tools.changed()
        if outcome.problem is None:
            self.received += 1
            lane.go_on(letter.version + 1)
            return
        self.failed += 1
        attempts = lane.failures + 1
        delay = self._tools.policy.delay_after(attempts)
        if delay is None:
            self._dead.append(_dead_letter(self.span.key, letter, attempts, outcome.problem))
            lane.go_on(letter.version + 1)
        else:
            lane.fail(outcome.problem, delay, _now())
        log.warning(
            "publisher attempt failed",
            **self._names(lane),
            version=letter.version,
            event_id=letter.event_id,
            attempt=attempts,
            problem=outcome.problem,
            next_in=delay,
        )

    def _names(self, lane: Lane) -> dict[str, object]:
        return {
            "subscription": str(self.span.subscription_id),
            "partition": self.span.partition,
            "entity": str(lane.originator_id),
        }


def _as_stored(key: FeedKey, lane: Lane, now: float) -> WaitingSite:
    seconds = max(0.0, lane.due - now)
    return WaitingSite(
        *key, lane.originator_id, lane.version, lane.failures, seconds, lane.last_error
    )


def _dead_letter(key: FeedKey, letter: Letter, attempts: int, problem: str) -> DeadLetter:
    return DeadLetter(
        *key, letter.position, letter.originator_id, letter.version, attempts, problem
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
