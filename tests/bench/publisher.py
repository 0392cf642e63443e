"""publisher: ``settings-ledger publish`` beside PyJWT's signatures alone, and beside procrastinate
with httpx doing the same job: from the commit of a change to the receiver's 200."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.delivery import Delivery, percentile, processor_seconds, rate
from tests.bench.measure import Baseline, Comparison, contest

PACE = 50
"""Changes a second where latency is measured."""

FEW_PACE = 5
"""The same where each change goes to a hundred subscriptions."""

WAL_GOAL = 60.0
P50_GOAL = 10.0


def run(bench: Bench) -> Iterator[Comparison]:
    """Throughput, WAL and latency of one subscription; a hundred with one down; a thousand."""
    with (
        Delivery.made(bench, 10 if bench.smoke else 500) as delivery,
        jobs.started(bench, f"{delivery.url}/peer") as peer,
    ):
        yield from _throughput(bench, delivery, peer)
        yield from _latency(bench, delivery, peer)
    with Delivery.made(bench, 10) as delivery:
        yield from _one_down(bench, delivery, 3 if bench.smoke else 100)
    with Delivery.made(bench, 10) as delivery:
        yield from _crowd(bench, delivery, 3 if bench.smoke else 1000)


def _throughput(bench: Bench, delivery: Delivery, peer: jobs.Jobs | None) -> Iterator[Comparison]:
    """A backlog, sent by a publisher that has just been started, so that nothing is signed yet."""
    subscription = delivery.subscribe("/hook")
    events = 40 if bench.smoke else round(1500 * bench.seconds)
    first, wal = delivery.change(events) + 1, list[float]()

    def drain() -> float:
        delivery.operator.pause(subscription, "bench")
        delivery.operator.resume(subscription, from_position=(0, first))
        delivery.forget()
        before = delivery.wal()
        with delivery.publisher():
            arrivals = delivery.arrivals(events)
        wal.append((delivery.wal() - before) / events)
        return rate(arrivals)

    def peers() -> float:
        assert peer is not None
        delivery.forget()
        before, jobs_count = delivery.wal(), max(20, events // 10)
        peer.drain(jobs_count)
        peer.wal.append((delivery.wal() - before) / jobs_count)
        return rate(delivery.arrivals(jobs_count))

    baselines = [Baseline("PyJWT's RS256 signatures", lambda: sign_rate(bench.seconds), 0.5)]
    if peer is not None:
        baselines.append(Baseline(jobs.NAME, peers, 5.0))
    yield from contest(
        "publisher",
        "one subscription, events",
        ours=drain,
        baselines=baselines,
        rounds=bench.rounds,
        warm_up=not bench.smoke,
    )
    theirs = None if peer is None else peer.wal
    yield from _told("WAL bytes per delivery", wal, theirs, WAL_GOAL, bench.rounds)


def _latency(bench: Bench, delivery: Delivery, peer: jobs.Jobs | None) -> Iterator[Comparison]:
    """From the change's acknowledgement to the 200; p99 is of the same runs as p50."""
    count, slowest = max(10, round(PACE * bench.seconds)), list[float]()

    def p50() -> float:
        with delivery.warm_publisher(1):
            committed = delivery.pace(PACE, count)
            arrivals = delivery.arrivals(count)
        took = [(one.at - committed[one.event_id]) * 1000 for one in arrivals]
        slowest.append(percentile(took, 99))
        return percentile(took, 50)

    baselines = [Baseline("the goal", lambda: P50_GOAL, 1.0)]
    if peer is not None:
        baselines.append(Baseline(jobs.NAME, lambda: peer.p50(PACE, count)))
    yield from contest(
        "publisher",
        f"commit to 200 at {PACE}/s, p50 ms",
        ours=p50,
        baselines=baselines,
        rounds=bench.rounds,
        unit=" ms",
        smaller_is_better=True,
        warm_up=not bench.smoke,
    )
    if peer is not None:
        case = f"commit to 200 at {PACE}/s, p99 ms"
        yield from _told(case, slowest, peer.p99, None, bench.rounds)


def _told(
    case: str,
    ours: Sequence[float],
    theirs: Sequence[float] | None,
    goal: float | None,
    rounds: int,
) -> Iterator[Comparison]:
    """A row of figures that other runs brought along; less is better, ``goal`` is the most."""
    mine = iter(ours[-rounds:])
    baselines = []
    if goal is not None:
        baselines.append(Baseline("the goal", lambda: goal, 1.0))
    if theirs is not None:
        their = iter(theirs[-rounds:])
        baselines.append(Baseline(jobs.NAME, lambda: next(their)))
    yield from contest(
        "publisher",
        case,
        ours=lambda: next(mine),
        baselines=baselines,
        rounds=rounds,
        unit="",
        smaller_is_better=True,
        warm_up=False,
    )


def _one_down(bench: Bench, delivery: Delivery, subscriptions: int) -> Iterator[Comparison]:
    """What the others notice of one that accepts connections and never answers."""
    healthy = subscriptions - 1
    paths = {f"/healthy/{number}" for number in range(healthy)}
    for path in paths:
        delivery.subscribe(path)
    last, down = delivery.subscribe("/last"), delivery.subscribe("/hang")
    count = max(5, round(FEW_PACE * bench.seconds))

    def p99(served: UUID, paused: UUID) -> float:
        _pause(delivery, paused)
        _resume(delivery, served)
        every = healthy + (served == last)
        with delivery.warm_publisher(every):
            committed = delivery.pace(FEW_PACE, count)
            arrivals = delivery.arrivals(count * every)
        return percentile(
            [(one.at - committed[one.event_id]) * 1000 for one in arrivals if one.path in paths],
            99,
        )

    _pause(delivery, down)
    yield from contest(
        "publisher",
        f"{healthy} healthy beside one down, p99 ms",
        ours=lambda: p99(down, last),
        baselines=[Baseline("all healthy", lambda: p99(last, down), 1.2)],
        rounds=bench.rounds,
        unit=" ms",
        smaller_is_better=True,
        warm_up=not bench.smoke,
    )


def _crowd(bench: Bench, delivery: Delivery, subscriptions: int) -> Iterator[Comparison]:
    """What it costs to have so many subscriptions, when nothing happens and when all get events."""
    _, *others = [delivery.subscribe(f"/{number}") for number in range(subscriptions)]
    count = 2 if bench.smoke else max(3, round(bench.seconds))
    seconds = max(0.5, bench.seconds)

    def idle(served: int) -> float:
        with delivery.warm_publisher(served) as process:
            before = processor_seconds(process.pid)
            time.sleep(seconds)
            return (processor_seconds(process.pid) - before) * 1000 / seconds

    def busy(served: int, events: int) -> float:
        with delivery.warm_publisher(served):
            delivery.change(events)
            return rate(delivery.arrivals(events * served))

    def all_served(serve: bool) -> int:
        for one in others:
            (_resume if serve else _pause)(delivery, one)
        return subscriptions if serve else 1

    yield from contest(
        "publisher",
        f"{subscriptions} subscriptions, idle, CPU ms/s",
        ours=lambda: idle(all_served(True)),
        baselines=[Baseline("one subscription", lambda: idle(all_served(False)))],
        rounds=min(2, bench.rounds),
        unit=" ms/s",
        smaller_is_better=True,
        warm_up=False,
    )
    yield from contest(
        "publisher",
        f"{subscriptions} subscriptions, deliveries",
        ours=lambda: busy(all_served(True), count),
        baselines=[
            Baseline("one subscription", lambda: busy(all_served(False), count * subscriptions))
        ],
        rounds=min(2, bench.rounds),
        warm_up=False,
    )


def _pause(delivery: Delivery, subscription: UUID) -> None:
    delivery.operator.pause(subscription, "bench")


def _resume(delivery: Delivery, subscription: UUID) -> None:
    """From now on: what came while it was paused is nobody's."""
    delivery.operator.pause(subscription, "bench")
    delivery.operator.resume(subscription, from_now=True)


def sign_rate(seconds: float) -> float:
    """Tokens a second by PyJWT alone, on one processor, of about a webhook's size."""
    key, data = generate_private_key(65537, 2048), "x" * 1500
    began, done = time.monotonic(), 0
    while (took := time.monotonic() - began) < seconds or not done:
        claims = {"data": data, "iat": done, "exp": done + 3600}
        jwt.encode(claims, key, algorithm="RS256", headers={"kid": "bench"})
        done += 1
    return done / took
