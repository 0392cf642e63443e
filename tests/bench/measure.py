"""Fair comparisons on a noisy machine: ours and the baselines in turn, medians and their ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from tests.bench import memory, progress

Rate = Callable[[], float]
"""Runs once and returns its figure: how much was done per second, or how long one call took."""


@dataclass(frozen=True)
class Baseline:
    """What ours is held against, and the goal for ours as a part of it."""

    name: str
    run: Rate
    goal: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One case against one baseline: medians in ``unit``, their ratio, and the goal for it.

    The goal is the least that the ratio should be, or the most where smaller is better; there
    may be none. ``spread`` is the largest ratio of a round through the smallest, ``memory`` the
    peak of ours in MiB; both are None where they are not known.
    """

    scenario: str
    case: str
    baseline: str
    ours: float
    theirs: float
    spread: float | None
    goal: float | None
    unit: str = "/s"
    smaller_is_better: bool = False
    memory: float | None = None

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
        return {name: facts[name] for name in FACTS}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The comparison that ``facts`` tell of; which side of a goal is the good one follows."""
        goal, ratio = facts["goal"], facts["ours"] / facts["theirs"]
        smaller = goal is not None and facts["met"] is not (ratio >= goal)
        given = {name: facts[name] for name in FACTS if name not in ("ratio", "met")}
        return cls(**given, spread=None, unit="", smaller_is_better=smaller)


FACTS = ("scenario", "case", "baseline", "ours", "theirs", "ratio", "goal", "met")


def contest(
    scenario: str,
    case: str,
    *,
    ours: Rate,
    baselines: Sequence[Baseline],
    rounds: int,
    unit: str = "/s",
    smaller_is_better: bool = False,
    warm_up: bool = True,
    peak: Callable[[], float | None] | None = None,
) -> list[Comparison]:
    """Run A B C A B C …, once to warm up and ``rounds`` times for real; one row per baseline.

    ``peak`` is asked at the end for the most memory that ours had, in MiB; by default that of
    this process.
    """
    memory.forget_peak()
    runs = [ours, *(baseline.run for baseline in baselines)]
    figures: list[list[float]] = [[] for _ in runs]
    for number in range(0 if warm_up else 1, rounds + 1):
        progress.say(f"{scenario}, {case}", number, rounds)
        for run, kept in zip(runs, figures, strict=True):
            figure = run()
            if number > 0:
                kept.append(figure)
    most = (peak or memory.peak)()
    mine, *others = figures
    return [
        Comparison(
            scenario,
            case,
            baseline.name,
            ours=statistics.median(mine),
            theirs=statistics.median(other),
            spread=_spread(mine, other),
            goal=baseline.goal,
            unit=unit,
            smaller_is_better=smaller_is_better,
            memory=most,
        )
        for baseline, other in zip(baselines, others, strict=True)
    ]


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
    peak: Callable[[], float | None] | None = None,
) -> Comparison:
    """``contest`` against one baseline."""
    [result] = contest(
        scenario,
        case,
        ours=ours,
        baselines=[Baseline(baseline, theirs, goal)],
        rounds=rounds,
        unit=unit,
        smaller_is_better=smaller_is_better,
        warm_up=warm_up,
        peak=peak,
    )
    return result


def _spread(mine: Sequence[float], other: Sequence[float]) -> float:
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return max(ratios) / min(ratios)
