"""What tests of the publisher under faults begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from publishing import World

from faults.nursery import Nursery
from ledger.assembly import Ledger


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Publishers in processes of their own."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def random_kills(request: pytest.FixtureRequest) -> int:
    """How often a publisher is killed at a random moment."""
    return int(request.config.getoption("--random-kills"))


@pytest.fixture
def publisher_database(fresh_database: Callable[[], Any]) -> Any:
    """An empty log for one test."""
    return fresh_database()


@pytest.fixture
def world(publisher_database: Any, tmp_path: Path) -> Iterator[World]:
    """A ledger and its app, on a database of the test's own."""
    with Ledger.open(database_url=publisher_database.server_url, data_dir=tmp_path) as ledger:
        yield World.on(ledger)
