# ruff: noqa: T201 — a program that prints
"""The command line: which scenarios, how long, and where the figures go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench import append
from tests.bench.measure import Comparison

SCENARIOS = {"append": append.run}


def main() -> None:
    """Run the scenarios and print their table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=3, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, in turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    unknown = [name for name in options.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {unknown[0]}; there is {', '.join(SCENARIOS)}")
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    results: list[Comparison] = []
    for name in options.scenario or SCENARIOS:
        with tempfile.TemporaryDirectory() as directory:
            for result in SCENARIOS[name](
                Path(directory),
                callers=tuple(options.callers),
                seconds=options.seconds,
                rounds=options.rounds,
            ):
                show(result)
                results.append(result)
    if options.json:
        options.json.write_text(json.dumps([result.facts() for result in results], indent=2))


def show(result: Comparison) -> None:
    """Print one line of the table."""
    print(
        f"{result.scenario:10} {result.case:12} ours {result.ours:9.0f}/s   "
        f"{result.baseline} {result.theirs:9.0f}/s   ratio {result.ratio:5.2f} "
        f"(spread ×{result.spread:.2f}, goal {result.goal:.2f}: "
        f"{'met' if result.met else 'not met'})"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
