"""Fair comparisons on a noisy machine: ours and the baseline in turn, medians and their ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Rate = Callable[[], float]
"""Runs once and returns its figure: how much was done per second, or how long one call took."""


@dataclass(frozen=True)
class Comparison:
    """One case against one baseline: medians in ``unit``, their ratio, and the goal for it.

    The goal is the least that the ratio should be, or the most where smaller is better; there
    may be none.
    """

    scenario: str
    case: str
    baseline: str
    ours: float
    theirs: float
    spread: float
    goal: float | None
    unit: str = "/s"
    smaller_is_better: bool = False

    @property
    def ratio(self) -> float:
        """Ours as a part of theirs."""
        return self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached, None where there is none."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.smaller_is_better else self.ratio >= self.goal

    def facts(self) -> dict[str, Any]:
        """For programs."""
        facts = asdict(self) | {"ratio": self.ratio, "met": self.met}
        return {name: facts[name] for name in _FACTS}


_FACTS = ("scenario", "case", "baseline", "ours", "theirs", "ratio", "spread", "goal", "met")


def compare(
    scenario: str,
    case: str,
    baseline: str,
    *,
    ours: Rate,
    theirs: Rate,
    goal: float | None,
    rounds: int,
    unit: str = "/s",
    smaller_is_better: bool = False,
    warm_up: bool = True,
) -> Comparison:
    """Run A B A B …, once to warm up and ``rounds`` times for real."""
    if warm_up:
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
        unit=unit,
        smaller_is_better=smaller_is_better,
    )
