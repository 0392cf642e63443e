"""Fair comparisons on a noisy machine: ours and the baseline in turn, medians and their ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Rate = Callable[[], float]
"""Runs once and returns how much was done per second."""


@dataclass(frozen=True)
class Comparison:
    """One case against one baseline: medians per second, their ratio, and the goal for it."""

    scenario: str
    case: str
    baseline: str
    ours: float
    theirs: float
    spread: float
    goal: float

    @property
    def ratio(self) -> float:
        """Ours as a part of theirs."""
        return self.ours / self.theirs

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def compare(
    scenario: str, case: str, baseline: str, *, ours: Rate, theirs: Rate, goal: float, rounds: int
) -> Comparison:
    """Run A B A B …, once to warm up and ``rounds`` times for real."""
    ours(), theirs()
    mine, other = [], []
    for _ in range(rounds):
        mine.append(ours())
        other.append(theirs())
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return Comparison(
        scenario,
        case,
        baseline,
        ours=statistics.median(mine),
        theirs=statistics.median(other),
        spread=max(ratios) / min(ratios),
        goal=goal,
    )
