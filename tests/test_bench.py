"""The benchmarks measure what they say they do; how fast anything is, is no matter of tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger import Ledger
from ledger.verification import Report
from tests.bench import __main__ as bench
from tests.bench import generator, history_scale, rebuild, table
from tests.bench.bench import Bench
from tests.bench.history_scale import PAGE, QUESTIONS, Subject
from tests.bench.measure import Comparison, compare
from tests.bench.scenarios import SCENARIOS
from tests.bench.server import Server

if TYPE_CHECKING:
    from conftest import TestDatabase

KEYS = {"scenario", "case", "baseline", "ours", "theirs", "ratio", "goal", "met"}

# Tried here on databases of the tests' own server: theirs would be three more.
LOADING = {"history_scale", "rebuild"}


@contextmanager
def opened(database: TestDatabase, directory: Path) -> Iterator[Ledger]:
    """A ledger that knows its owner, as the benchmarks' own does."""
    with Ledger.open(
        database_url=database.server_url, migration_url=database.owner_url, data_dir=directory
    ) as ledger:
        yield ledger


def test_a_generated_ledger_is_valid(fresh_database: Callable[[], TestDatabase], tmp_path: Path):
    """Neither log nor projections have a fault, and the sites and people have what is asked for."""
    with opened(fresh_database(), tmp_path) as ledger:
        loaded = generator.load(ledger, 2000, 40)
        assert ledger.verify() == Report(events=2000, sites=40)
        checked = ledger.projections.check()
        assert [one.fault for one in checked] == [None] * len(ledger.projections.names)
        assert {one.events for one in checked} == {2000}
        hot = ledger.site(loaded.hot_site)
        assert hot.record().version == 200
        assert ledger.site(loaded.plain_site).record().version > 1
        assert hot.history.at(loaded.middle).version == 100
        assert hot.history.blame()["inventoryUpdateTrigger"].version == 1
        for who in (loaded.owner, loaded.operator):
            assert len(ledger.audit.search(by=who, limit=PAGE)) == PAGE
        agents = ledger.audit.search(by=loaded.agent)
        assert len({change.site_id for change in agents}) > 1
        # What the generator wrote can be gone on with.
        assert hot.update({"createInvoice": None}).version == 201
        assert ledger.verify() == Report(events=2001, sites=40)


def test_a_ledger_in_use_is_left_alone(fresh_database: Callable[[], TestDatabase], tmp_path: Path):
    """The generator writes into an empty ledger only."""
    with opened(fresh_database(), tmp_path) as ledger:
        ledger.create_site()
        with pytest.raises(RuntimeError, match="holds events already"):
            generator.load(ledger, 200, 5)
        assert ledger.verify() == Report(events=1, sites=1)


def test_history_scale_runs(fresh_database: Callable[[], TestDatabase], tmp_path: Path):
    """It asks every question of both ledgers, and fewer milliseconds are better."""
    with (
        opened(fresh_database(), tmp_path / "large") as large,
        opened(fresh_database(), tmp_path / "small") as small,
    ):
        results = list(
            history_scale.compare_all(
                Subject(large, generator.load(large, 300, 10)),
                Subject(small, generator.load(small, 100, 10)),
                seconds=0,
                rounds=1,
            )
        )
    assert [result.case for result in results] == list(QUESTIONS)
    for result in results:
        assert_row(result.facts())
        assert result.case in table.line(result)
        assert result.met == (result.ratio <= history_scale.GOAL)


def test_rebuild_runs(fresh_database: Callable[[], TestDatabase], tmp_path: Path):
    """It rebuilds, copies, replays and exports, and leaves a ledger without a fault."""
    with opened(fresh_database(), tmp_path / "ledger") as ledger:
        generator.load(ledger, 200, 5)
        results = list(rebuild.compare_all(ledger, tmp_path, changes=200, rounds=1))
        assert {one.fault for one in ledger.projections.check()} == {None}
    assert [result.case for result in results] == [
        *("rebuild, events" for _ in range(3)),
        *(
            case
            for what in rebuild.WHAT
            for case in (f"{what}, events", f"{what}, events", f"{what}, peak MiB")
        ),
    ]
    for result in results:
        assert_row(result.facts())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The benchmarks' own server, started once for all scenarios."""
    with Server.started(tmp_path_factory.mktemp("bench"), connections=None) as server:
        yield server


@pytest.mark.parametrize("scenario", sorted(SCENARIOS.keys() - LOADING))
def test_a_scenario_runs(server: Server, tmp_path: Path, scenario: str):
    """Every scenario gives its rows, at the least size there is."""
    options = bench.parse(["--smoke"])
    small = Bench(
        server, tmp_path, seconds=options.seconds, rounds=options.rounds, smoke=options.smoke
    )
    results = list(SCENARIOS[scenario](small))
    assert results
    for result in results:
        assert result.scenario == scenario
        assert_row(result.facts())
        assert result.case in table.line(result)


def test_figures_are_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command line measures, writes the figures down, and makes a table of them later."""
    row = Comparison("quick", "a case", "nothing", 3.0, 2.0, spread=1.0, goal=1.0)
    slow = replace(row, case="another", smaller_is_better=True)
    monkeypatch.setitem(SCENARIOS, "quick", lambda _bench: iter([row, slow]))
    figures, readme = tmp_path / "figures.json", tmp_path / "README.md"
    bench.main(["quick", "--smoke", "--json", str(figures)])
    assert json.loads(figures.read_text()) == [row.facts(), slow.facts()]
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    bench.main(["--from", str(figures), "--into", str(readme)])
    assert readme.read_text().splitlines()[5:-3] == [
        "| `quick` | a case | 3.00 | nothing | 2.00 | 1.50 | ≥ 1 | yes |",
        "| `quick` | another | 3.00 | nothing | 2.00 | 1.50 | ≤ 1 | **no** |",
    ]


def assert_row(row: dict[str, Any]) -> None:
    """The row is what ``--json`` promises."""
    assert row.keys() == KEYS
    assert row["ours"] > 0
    assert row["ratio"] == row["ours"] / row["theirs"]


@pytest.mark.parametrize(
    ("ours", "smaller_is_better", "goal", "met"),
    [
        (2.0, False, 0.5, True),
        (2.0, False, 3.0, False),
        (2.0, True, 3.0, True),
        (2.0, True, 0.5, False),
        (2.0, True, 2.0, True),
        (2.0, False, None, None),
    ],
)
def test_a_goal_is_met_from_its_side(ours, smaller_is_better, goal, met):
    """A rate should be at least its goal, a time at most; without a goal nothing is met."""
    result = compare(
        "scenario",
        "case",
        "baseline",
        ours=lambda: ours,
        theirs=lambda: 1.0,
        goal=goal,
        rounds=1,
        smaller_is_better=smaller_is_better,
    )
    assert result.ratio == ours
    assert result.met is met


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "unknown scenario nothing"),
        (["rebuild", "--changes", "5"], "--changes must"),
        (["--rounds", "0"], "--rounds must"),
        (["--from", "nowhere.json"], "--from nowhere.json: expected a file"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys, arguments, said):
    """The command line says what is wrong before anything is started."""
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert said in capsys.readouterr().err
