"""A feed: one subscription on one partition, from its cursor to the head of the log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from heapq import heappop, heappush
from uuid import UUID

import structlog

from ledger.publisher.attempts import RECOVERY_PAUSE, Attempts, Slots
from ledger.publisher.lanes import Desk, Lane, Lanes, Tools
from ledger.publisher.letters import Letter, Reading
from ledger.publisher.policy import Policy
from ledger.publisher.spans import Span
from ledger.publisher.state import Progress, WaitingSite
from ledger.publisher.tasks import Tasks

log = structlog.get_logger(__name__)

WINDOW = 1024
"""Letters read and not yet done with, per feed."""

BATCH = 256
"""Events read at once."""

QUEUE = 64
"""Letters of one site in the window; a site with more goes on in a lane, read from the log."""


class Feed:
    """Delivers in version order per site, sites beside one another.

    The window holds the positions read and not yet done with; the cursor stands before the
    first of them. A site whose attempt fails leaves the window for a lane, so that it holds up
    neither the cursor nor the others.
    """

    def __init__(
        self,
        span: Span,
        waiting: Iterable[WaitingSite],
        policy: Policy,
        slots: Slots,
        tools: Tools,
    ) -> None:
        self.stopped = False
        self._epoch = span.epoch
        self._tools = tools
        self._tasks = Tasks()
        self._attempts = Attempts(tools.courier, policy, slots, tools.changed, tools.holds_for)
        self._desk = Desk(span, policy, slots, self._attempts, tools, self._tasks)
        self._lanes = Lanes(self._desk)
        self._queues: dict[UUID, deque[Letter]] = {}
        self._ready: list[tuple[int, deque[Letter]]] = []
        self._workers = 0
        self._window: OrderedDict[int, None] = OrderedDict()
        self._head = span.head
        self._read_to = span.position
        self._written = (span.position, tuple(span.beyond))
        self._received = 0
        self._told_gone = False
        self._told_breaker = slots.breaker.changes
        self._wake = asyncio.Event()
        for site in waiting:
            self._lanes.restore(site)
        self._tasks.spawn(self._run())

    @property
    def span(self) -> Span:
        """The latest word on the subscription."""
        return self._desk.span

    @property
    def cursor(self) -> int:
        """The position up to which everything is done with, or in a lane."""
        return next(iter(self._window)) - 1 if self._window else self._read_to

    @property
    def failure(self) -> BaseException | None:
        """The error that broke this feed, if one did; nothing it had not recorded is lost."""
        return self._tasks.failure

    @property
    def waiting(self) -> int:
        """How many sites wait in a lane."""
        return len(self._lanes)

    @property
    def pending_sites(self) -> int:
        """How many sites have something in the window."""
        return len(self._queues)

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to do before time passes or the log grows."""
        if self._attempts.gone is not None:
            return True
        return self._read_all and not self._window and self._lanes.quiet

    @property
    def _read_all(self) -> bool:
        return self.stopped or self._read_to >= self._target

    @property
    def _target(self) -> int:
        """The last position that is to be looked at now."""
        until = self.span.until_position
        return self._head if until is None else min(self._head, until)

    @property
    def beyond(self) -> list[int]:
        """The stretches after the cursor that are done with: first and last of each."""
        stretches: list[int] = []
        first = self.cursor + 1
        for position in [*self._window, self._read_to + 1]:
            if position > first:
                stretches += [first, position - 1]
            first = position + 1
        return stretches

    def stands(self, span: Span) -> bool:
        """Whether this feed may go on as it began: its own, not paused, served the same way."""
        return span.epoch == self._epoch and not span.paused and span.choices == self.span.choices

    def update(self, span: Span) -> None:
        """Take note of how the log, or the subscription, has moved on."""
        self._desk.span = span
        if span.deleted:
            self._lanes.end()
        self.grow(span.head)
        self._wake.set()

    def grow(self, head: int) -> None:
        """Take note of how far the log goes by now."""
        if head > self._head:
            self._head = head
            self._wake.set()

    def collect(self) -> Progress:
        """What changed since the last time. Cursor and lanes are of one moment."""
        progress = Progress(
            self.span.key,
            self._epoch,
            received=self._received,
            subscription_id=self.span.subscription_id,
        )
        self._received = 0
        progress.attempts, self._attempts.made = self._attempts.made, []
        self._lanes.collect(progress)
        standing = (self.cursor, tuple(self.beyond))
        if standing != self._written:
            self._written = standing
            progress.cursor, progress.beyond = standing
        if self._attempts.gone is not None and not self._told_gone:
            self._told_gone = True
            progress.pause = (
                self.span.subscription_id,
                f"the receiver {self._attempts.gone}: it is gone for good",
            )
        if self._told_breaker != self._desk.slots.breaker.changes:
            self._told_breaker = self._desk.slots.breaker.changes
            progress.breaker_changed = True
            progress.breaker = self._desk.slots.breaker.opened
        over = self.span.replay and self.cursor == self.span.until_position
        progress.finished = over and not len(self._lanes)
        return progress

    async def retire(self, grace: float) -> None:
        """Send nothing more; requests in flight get ``grace`` seconds and are recorded."""
        await self._attempts.close(grace)

    async def close(self) -> None:
        """Stop at once; what is not recorded yet is done again by the next run."""
        await self._attempts.close(0)
        await self._tasks.cancel()

    async def _run(self) -> None:
        while not self.stopped:
            self._wake.clear()
            if self._read_to < self._target and len(self._window) <= WINDOW - BATCH:
                await self._read()
            else:
                await self._wake.wait()

    async def _read(self) -> None:
        try:
            reading = await self._tools.blocking.run(
                self._tools.reader.after, self.span, self._read_to, self._target, BATCH
            )
        except Exception as error:  # noqa: BLE001 — said, and tried again after a pause
            problem = f"{type(error).__name__}: {error}"
            log.warning("publisher waits", **self._names(), problem=problem)
            await asyncio.sleep(RECOVERY_PAUSE)
            return
        self._accept(reading)

    def _accept(self, reading: Reading) -> None:
        if reading.events:
            self._read_to = reading.last_position
        for letter in reading.letters:
            self._enqueue(letter)
        if reading.unknown is not None:
            # For good: what this program does not understand it must not pass over.
            self.stopped = True
            log.error("publisher stopped", **self._names(), problem=str(reading.unknown))
        self._tools.changed()

    def _enqueue(self, letter: Letter) -> None:
        lane = self._lanes.get(letter.originator_id)
        if lane is not None:
            lane.behind_until = letter.position
            return
        self._window[letter.position] = None
        queue = self._queues.get(letter.originator_id)
        if queue is None:
            queue = self._queues[letter.originator_id] = deque([letter])
            self._make_ready(queue)
            return
        queue.append(letter)
        if len(queue) > QUEUE:
            self._open_lane(letter.originator_id, queue)

    def _make_ready(self, queue: deque[Letter]) -> None:
        heappush(self._ready, (queue[0].position, queue))
        if self._workers < self._desk.policy.in_flight:
            self._workers += 1
            self._tasks.spawn(self._work())

    async def _work(self) -> None:
        """Deliver what is ready, the oldest first, so that the cursor is never far behind."""
        try:
            while self._ready:
                async with self._desk.slots.live:
                    if self._ready:
                        _, queue = heappop(self._ready)
                        await self._deliver(queue)
        finally:
            self._workers -= 1

    async def _deliver(self, queue: deque[Letter]) -> None:
        """Make the first attempt at a site's next letter; the others are ready after it only."""
        letter = queue[0]
        originator_id = letter.originator_id
        outcome = await self._attempts.make(self.span, letter, fresh=True)
        lane = self._lanes.get(originator_id)
        alone = lane is None and not outcome.received and not self._desk.policy.holds_back
        if lane is not None or not (outcome.received or alone):
            lane = lane or self._open_lane(originator_id, queue)
            self._lanes.settle(lane, letter, outcome)
            return
        if alone:
            self._lanes.set_aside(letter, outcome)
        else:
            self._received += 1
        self._done(queue.popleft())
        if queue:
            self._make_ready(queue)
        else:
            del self._queues[originator_id]

    def _done(self, letter: Letter) -> None:
        self._window.pop(letter.position)
        self._wake.set()
        self._tools.changed()

    def _open_lane(self, originator_id: UUID, queue: deque[Letter]) -> Lane:
        """Move a site out of the window; its attempt under way, if any, is settled afterwards."""
        for letter in queue:
            self._window.pop(letter.position)
        del self._queues[originator_id]
        self._wake.set()
        return self._lanes.open(originator_id, queue[0].version, queue[-1].position)

    def _names(self) -> dict[str, object]:
        return {
            "subscription": str(self.span.subscription_id),
            "partition": self.span.partition,
        }
