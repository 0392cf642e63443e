"""history_scale: what auditors ask of a large ledger, beside the same on a small one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ledger import Ledger
from tests.bench import generator
from tests.bench.generator import Loaded
from tests.bench.measure import Comparison, compare

SMALL = 10_000
GOAL = 1.5
# What an agent did on the small ledger fills it, too: both answers have the same size.
PAGE = 20
FEWEST_CALLS = 3


@dataclass(frozen=True)
class Subject:
    """A loaded ledger that questions are put to."""

    ledger: Ledger
    loaded: Loaded


Question = Callable[[Subject], object]


def run(
    directory: Path, *, changes: int, sites: int, seconds: float, rounds: int, small: int = SMALL
) -> Iterator[Comparison]:
    """Load both ledgers, each on a server of its own, and compare each question."""
    with (
        Ledger.open(data_dir=directory / "large") as large,
        Ledger.open(data_dir=directory / "small") as little,
    ):
        yield from compare_all(
            Subject(large, generator.load(large, changes, sites)),
            Subject(little, generator.load(little, small, sites)),
            seconds=seconds,
            rounds=rounds,
        )


def compare_all(
    large: Subject, small: Subject, *, seconds: float, rounds: int
) -> Iterator[Comparison]:
    """Each question's p50 on the large ledger beside that on the small one."""
    for case, question in QUESTIONS.items():
        yield compare(
            "history_scale",
            case,
            f"the same on {small.loaded.changes:,} changes",
            ours=partial(p50, question, large, seconds),
            theirs=partial(p50, question, small, seconds),
            goal=GOAL,
            rounds=rounds,
            unit=" ms",
            smaller_is_better=True,
        )


def p50(question: Question, subject: Subject, seconds: float) -> float:
    """The median time of one call in milliseconds, of as many as ``seconds`` allow."""
    end = time.perf_counter() + seconds
    took: list[float] = []
    while len(took) < FEWEST_CALLS or time.perf_counter() < end:
        began = time.perf_counter()
        question(subject)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def _at(subject: Subject) -> object:
    return subject.ledger.site(subject.loaded.hot_site).history.at(subject.loaded.middle)


def _at_of_plain(subject: Subject) -> object:
    return subject.ledger.site(subject.loaded.plain_site).history.at(subject.loaded.middle)


def _changes(subject: Subject) -> object:
    return subject.ledger.site(subject.loaded.hot_site).history.changes(limit=PAGE)


def _blame(subject: Subject) -> object:
    return subject.ledger.site(subject.loaded.hot_site).history.blame()


def _search_owner(subject: Subject) -> object:
    return subject.ledger.audit.search(by=subject.loaded.owner, limit=PAGE)


def _search_agent(subject: Subject) -> object:
    return subject.ledger.audit.search(by=subject.loaded.agent, limit=PAGE)


def _search_operator(subject: Subject) -> object:
    return subject.ledger.audit.search(by=subject.loaded.operator, limit=PAGE)


# Who acts on one site, on many and on all are found in different ways, so each is asked for.
QUESTIONS: dict[str, Question] = {
    "at, hot site, p50 ms": _at,
    "at, plain site, p50 ms": _at_of_plain,
    "page of changes, p50 ms": _changes,
    "blame, p50 ms": _blame,
    "search owner, p50 ms": _search_owner,
    "search agent, p50 ms": _search_agent,
    "search operator, p50 ms": _search_operator,
}
