"""The benchmarks measure what they say they do; how fast anything is, is no matter of tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from credentials import SECRET_KEY

from ledger import Ledger
from ledger.verification import Report
from tests.bench import __main__ as bench
from tests.bench import append, generator, history_scale
from tests.bench.history_scale import PAGE, QUESTIONS, Subject
from tests.bench.measure import compare

if TYPE_CHECKING:
    from conftest import TestDatabase

KEYS = {"scenario", "case", "baseline", "ours", "theirs", "ratio", "spread", "goal", "met"}


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
        bench.show(result)
        assert result.met == (result.ratio <= history_scale.GOAL)


def test_rebuild_runs(
    fresh_database: Callable[[], TestDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It rebuilds, copies, replays and exports, and leaves a ledger without a fault."""
    database, figures = fresh_database(), tmp_path / "figures.json"
    monkeypatch.setenv("LEDGER_DATABASE_URL", database.server_url)
    monkeypatch.setenv("LEDGER_MIGRATION_URL", database.owner_url)
    monkeypatch.setenv("LEDGER_SECRET_KEY", SECRET_KEY)
    sizes = ["--changes", "200", "--sites", "5", "--rounds", "1"]
    bench.main(["rebuild", *sizes, "--json", str(figures)])
    with Ledger.open() as ledger:
        assert {one.fault for one in ledger.projections.check()} == {None}
    rows = json.loads(figures.read_text())
    assert [row["case"] for row in rows] == [
        "rebuild, events",
        "rebuild, events",
        "replay, events",
        "replay, peak MiB",
        "export, events",
        "export, peak MiB",
    ]
    for row in rows:
        assert_row(row)


def test_append_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command line starts a ledger of its own and writes the figures down."""
    monkeypatch.setattr(append, "SITES", 2)
    figures = tmp_path / "figures.json"
    bench.main(
        ["append", "--callers", "1", "--seconds", "0.1", "--rounds", "1", "--json", str(figures)]
    )
    [row] = json.loads(figures.read_text())
    assert_row(row)
    assert row["scenario"] == "append"


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
    [(["nothing"], "unknown scenario nothing"), (["rebuild", "--changes", "5"], "--changes must")],
)
def test_what_makes_no_sense_is_refused(capsys, arguments, said):
    """The command line says what is wrong before anything is started."""
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert said in capsys.readouterr().err
