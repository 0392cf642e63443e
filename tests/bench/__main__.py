# ruff: noqa: T201 — a program that prints
"""The command line: which scenarios, how long, and where the figures go."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.bench import progress, table
from tests.bench.bench import Bench
from tests.bench.generator import FEWEST_CHANGES
from tests.bench.machine import Machine
from tests.bench.measure import FACTS, Comparison
from tests.bench.scenarios import SCENARIOS
from tests.bench.server import Server

SMOKE = {"rounds": 1, "seconds": 0.05, "changes": FEWEST_CHANGES, "sites": 2}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the scenarios, or take the figures of a run before, and show them."""
    options = parse(arguments)
    results, machine, failed = list(options.figures), None, list[str]()
    if options.scenario or not options.given:
        measured, machine, failed = measure(options)
        results += measured
    order = list(SCENARIOS)
    results.sort(key=lambda result: order.index(result.scenario))
    if options.json:
        facts = [result.facts() for result in results]
        options.json.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    if options.markdown:
        print(table.markdown(results, machine))
    if options.into:
        table.replace(options.into, table.markdown(results, machine))
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


def measure(options: argparse.Namespace) -> tuple[list[Comparison], str, list[str]]:
    """Run the scenarios one after the other: what came out, on what machine, and what failed."""
    for name in [name for name in os.environ if name.startswith("LEDGER_")]:
        del os.environ[name]  # Nobody's ledger but our own is measured.
    results: list[Comparison] = []
    failed: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="settings-ledger-bench-") as scratch,
        Server.started(Path(scratch) / "server") as server,
    ):
        machine = str(Machine.seen(server))
        progress.note(machine)
        for name in options.scenario or SCENARIOS:
            directory = Path(scratch) / name
            directory.mkdir(exist_ok=True)
            try:
                for result in SCENARIOS[name](_bench(server, directory, options)):
                    progress.note(table.line(result))
                    results.append(result)
            except Exception:  # noqa: BLE001 — half an hour's figures are not thrown away for one
                progress.note(f"{name} failed:\n{traceback.format_exc()}")
                failed.append(name)
    return results, machine, failed


def _bench(server: Server, directory: Path, options: argparse.Namespace) -> Bench:
    return Bench(
        server,
        directory,
        seconds=options.seconds,
        rounds=options.rounds,
        changes=options.changes,
        sites=options.sites,
        smoke=options.smoke,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the program, with a sentence, for those that make no sense."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--seconds", type=float, default=2, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, in turn")
    parser.add_argument("--changes", type=int, default=1_000_000, help="size of loaded ledgers")
    parser.add_argument("--sites", type=int, default=10_000, help="sites of those")
    parser.add_argument("--smoke", action="store_true", help="does it work? no figures to rely on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", action="store_true", help="print the README's table")
    parser.add_argument("--into", type=Path, metavar="FILE", help="put that table in its place")
    parser.add_argument(
        "--from",
        dest="given",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="show what --json wrote as well; without a scenario, nothing else",
    )
    options = parser.parse_args(arguments)
    if options.smoke:
        parser.set_defaults(**SMOKE)
        options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    unknown = [name for name in options.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {unknown[0]}; there is {', '.join(SCENARIOS)}")
    if options.changes < FEWEST_CHANGES or options.sites < 2:
        parser.error(f"--changes must be {FEWEST_CHANGES} or more, --sites 2 or more")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds must be 1 or more, --seconds more than 0")
    options.figures = []
    for file in options.given or ():
        try:
            rows = json.loads(file.read_text())
            options.figures += [Comparison.of(row) for row in rows if row["scenario"] in SCENARIOS]
        except (OSError, ValueError, KeyError, TypeError):
            parser.error(f"--from {file}: expected a file that --json wrote ({', '.join(FACTS)})")


if __name__ == "__main__":
    main()
