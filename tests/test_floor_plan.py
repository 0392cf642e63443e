"""The walls of the house stand, and the test that guards them would notice if they did not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import floor_plan
import pytest

ROOT = Path(__file__).parent.parent


def test_the_house_stands_as_planned():
    """No module breaks the order of imports, a guest's door, a table's ownership or a size."""
    assert floor_plan.faults(ROOT) == []


def test_every_module_is_looked_at():
    """The plan reads real files, and every storey that has one."""
    names = {module.name for module in floor_plan.modules(ROOT)}
    assert {"errors", "config", "database", "projections.current", "cli", "ledger"} <= names


def test_every_table_has_one_owner():
    """A table that a migration creates stands in the plan with the one room that writes it."""
    created = {
        table
        for migration in sorted((ROOT / "migrations").glob("*.sql"))
        for table in re.findall(
            r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", migration.read_text(), re.MULTILINE
        )
    }
    assert created
    assert created <= floor_plan.OWNERS.keys()
    assert all(len(owners) == 1 for owners in floor_plan.OWNERS.values())


def test_guests_are_declared_dependencies():
    """A library that the plan lets in is one that pyproject.toml installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        *project["dependencies"],
        *(
            name
            for extra in ("embedded", "nats", "parquet")
            for name in project["optional-dependencies"][extra]
        ),
    ]
    installed = {re.split(r"[\[<>=]", name)[0].replace("-", "_") for name in named}
    # What comes as a part of another: psycopg[pool], FastAPI's own foundation.
    installed |= {"jwt", "nats", "psycopg_pool", "starlette", "yarl"}
    assert floor_plan.GUESTS.keys() <= installed


@pytest.fixture
def house(tmp_path):
    """A small sound house to break walls in."""
    for name in (
        "errors",
        "database",
        "eventlog",
        "history",
        "publisher/__init__",
        "publisher/sign",
    ):
        _build(tmp_path, f"ledger/{name}.py", "")
    _build(
        tmp_path, "ledger/__init__.py", "def lazily():\n    from ledger.assembly import Ledger\n"
    )
    _build(
        tmp_path, "projections/current.py", "INSERT = 'INSERT INTO current_settings VALUES (1)'\n"
    )
    assert floor_plan.faults(tmp_path) == []
    return tmp_path


def _build(root: Path, name: str, code: str, docstring: str = '"""A room."""\n') -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(docstring + code)


@pytest.mark.parametrize(
    ("module", "code", "fault"),
    [
        ("ledger/errors.py", "import ledger.history\n", "imports history, which stands"),
        ("ledger/errors.py", "from ledger import history\n", "imports history, which stands"),
        ("ledger/errors.py", "from .history import changes\n", "imports history, which stands"),
        ("ledger/errors.py", "from ledger import Ledger\n", "imports ledger, which stands"),
        ("ledger/errors.py", "def f():\n    from ledger.history import x\n", "imports history"),
        ("ledger/errors.py", "m = importlib.import_module('ledger.cli')\n", "imports cli"),
        ("ledger/history.py", "from ledger.publisher import sign\n", "beside or above history"),
        ("ledger/publisher/sign.py", "from ..web import app\n", "imports web, which stands"),
        ("ledger/history.py", "from projections import current\n", "imports projections"),
        ("ledger/attic.py", "", "the room attic is not in the plan"),
        ("ledger/history.py", "import psycopg\n", "lets in psycopg"),
        ("ledger/history.py", "from psycopg.rows import dict_row\n", "lets in psycopg"),
        ("ledger/publisher/feed.py", "import jwt\n", "lets in jwt"),
        ("ledger/history.py", "import requests\n", "lets in requests, whose rooms are none"),
        ("ledger/eventlog.py", "import eventsourcing.postgres\n", "which nobody does"),
        ("ledger/eventlog.py", "from eventsourcing import postgres\n", "which nobody does"),
        ("ledger/history.py", "Q = 'DELETE FROM events'\n", "writes events, which belongs to"),
        ("ledger/history.py", "Q = 'UPDATE sites AS s\\n SET name = 1'\n", "writes sites"),
        ("ledger/history.py", "Q = b'insert into apps VALUES (1)'\n", "writes apps"),
        ("ledger/history.py", "Q = f'{x} TRUNCATE TABLE events'\n", "writes events"),
        (
            "projections/feed.py",
            "Q = 'COPY current_settings FROM STDIN'\n",
            "writes current_settings",
        ),
        ("ledger/history.py", "import os\nHOME = os.environ['HOME']\n", "reads the environment"),
        ("ledger/history.py", "from os import getenv\n", "reads the environment"),
        ("ledger/history.py", "x = 1\n" * 300, "has 301 lines"),
        ("ledger/history.py", "def f():\n" + "    x = 1\n" * 40, "f has 40 lines"),
    ],
)
def test_a_broken_wall_is_found(house, module, code, fault):
    """Each kind of breach gives exactly one fault, which names it."""
    _build(house, module, code)
    [found] = floor_plan.faults(house)
    assert found.startswith(f"{module}: ")
    assert fault in found


def test_a_module_without_a_docstring_is_found(house):
    """Every module opens by naming its matter."""
    _build(house, "ledger/history.py", "x = 1\n", docstring="")
    assert floor_plan.faults(house) == [
        "ledger/history.py: opens without a docstring that names its matter"
    ]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("ledger/publisher/sign.py", "import jwt\nfrom ledger.publisher import envelope\n"),
        ("ledger/publisher/sign.py", "from . import envelope\nfrom ..errors import LedgerError\n"),
        ("ledger/history.py", "Q = 'SELECT 1 FROM sites FOR UPDATE'\n"),
        ("ledger/history.py", "def f():\n    '''DELETE FROM events is refused.'''\n"),
        ("ledger/history.py", "def f():\n    '''A\n" + "    b\n" * 60 + "    '''\n    return 1\n"),
    ],
)
def test_what_the_plan_allows_is_no_fault(house, module, code):
    """A guest in its room, an import downwards, a read, and prose about SQL are all in order."""
    _build(house, module, code)
    assert floor_plan.faults(house) == []
