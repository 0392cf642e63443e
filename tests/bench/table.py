"""How figures are shown: lines on a terminal, a table in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.measure import Comparison

BEGIN, END = "<!-- figures: python -m tests.bench --markdown -->", "<!-- end of figures -->"
_HEAD = ("scenario", "case", "ours", "baseline", "theirs", "ratio", "goal", "met")
_UNMET = "**no**"


def line(result: Comparison) -> str:
    """One line for who watches."""
    goal = "no goal"
    if result.goal is not None:
        goal = f"goal {_goal(result)}: {'met' if result.met else 'not met'}"
    spread = "" if result.spread is None else f", spread ×{result.spread:.2f}"
    most = "" if result.memory is None else f", peak {result.memory:.0f} MiB"
    return (
        f"{result.scenario:16} {result.case:32} ours {figure(result.ours):>8}{result.unit}   "
        f"{result.baseline} {figure(result.theirs)}{result.unit}   "
        f"ratio {result.ratio:.2f} ({goal}{spread}{most})"
    )


def markdown(results: Iterable[Comparison], machine: str | None = None) -> str:
    """The table, and where it comes from, between the marks by which it is found again."""
    rows = [_row(_HEAD), _row(["---"] * len(_HEAD)), *map(_row, map(_cells, results))]
    where = [f"Measured on {machine}.", ""] if machine else []
    return "\n".join([BEGIN, "", *where, *rows, "", END])


def replace(file: Path, table: str) -> None:
    """Put a table in the place of the one in a file. Raises ValueError where there is none."""
    text = file.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        message = f"{file} has no place for the table: expected the lines {BEGIN} and {END} once"
        raise ValueError(message)
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    file.write_text(pattern.sub(lambda _: table, text))


def figure(value: float) -> str:
    """Three digits that matter, and no more than can be told apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _cells(result: Comparison) -> Sequence[str]:
    met = {None: "", True: "yes", False: _UNMET}[result.met]
    return (
        f"`{result.scenario}`",
        result.case,
        figure(result.ours),
        result.baseline,
        figure(result.theirs),
        f"{result.ratio:.2f}",
        _goal(result),
        met,
    )


def _goal(result: Comparison) -> str:
    if result.goal is None:
        return ""
    return f"{'≤' if result.smaller_is_better else '≥'} {result.goal:.3g}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
