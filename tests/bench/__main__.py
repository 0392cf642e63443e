# ruff: noqa: T201 — a program that prints
"""The command line: which scenarios, how long, and where the figures go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.bench import append, history_scale, rebuild
from tests.bench.generator import FEWEST_CHANGES
from tests.bench.measure import Comparison

Scenario = Callable[[Path, argparse.Namespace], Iterable[Comparison]]
SCENARIOS: dict[str, Scenario] = {
    "append": lambda directory, options: append.run(
        directory,
        callers=tuple(options.callers),
        seconds=options.seconds,
        rounds=options.rounds,
    ),
    "history_scale": lambda directory, options: history_scale.run(
        directory,
        changes=options.changes,
        sites=options.sites,
        seconds=options.seconds,
        rounds=options.rounds,
    ),
    "rebuild": lambda directory, options: rebuild.run(
        directory, changes=options.changes, sites=options.sites, rounds=options.rounds
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the scenarios and print their table."""
    options = parse(arguments)
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    results: list[Comparison] = []
    for name in options.scenario or SCENARIOS:
        with tempfile.TemporaryDirectory() as directory:
            for result in SCENARIOS[name](Path(directory), options):
                show(result)
                results.append(result)
    if options.json:
        options.json.write_text(json.dumps([result.facts() for result in results], indent=2))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the program, with a sentence, for those that make no sense."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=3, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, in turn")
    parser.add_argument(
        "--changes", type=int, default=1_000_000, help="size of the ledger that is loaded"
    )
    parser.add_argument("--sites", type=int, default=10_000, help="sites of that ledger")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {unknown[0]}; there is {', '.join(SCENARIOS)}")
    if options.changes < FEWEST_CHANGES or options.sites < 2:
        parser.error(f"--changes must be {FEWEST_CHANGES} or more, --sites 2 or more")
    return options


def show(result: Comparison) -> None:
    """Print one line of the table."""
    digits = 0 if result.unit == "/s" else 2
    if result.goal is None:
        goal = "no goal"
    else:
        goal = f"goal {'≤ ' * result.smaller_is_better}{result.goal:.2f}: "
        goal += "met" if result.met else "not met"
    print(
        f"{result.scenario:13} {result.case:24} ours {result.ours:9.{digits}f}{result.unit}   "
        f"{result.baseline} {result.theirs:9.{digits}f}{result.unit}   ratio {result.ratio:5.2f} "
        f"(spread ×{result.spread:.2f}, {goal})"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
