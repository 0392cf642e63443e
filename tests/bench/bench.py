"""What a scenario is given: where to measure, how long, and ledgers of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ledger import Ledger
from ledger.config import load_config
from tests.bench.measure import Comparison
from tests.bench.server import Server

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Bench:
    """One run of the benchmarks, as a scenario sees it.

    ``directory`` is the scenario's own to write in, ``seconds`` the length of one run,
    ``changes`` and ``sites`` the size of ledgers that are loaded. ``smoke`` asks only whether
    everything works: the least sizes, and nothing from the network.
    """

    server: Server
    directory: Path
    seconds: float = 3.0
    rounds: int = 5
    changes: int = 1_000_000
    sites: int = 10_000
    smoke: bool = False

    @contextmanager
    def ledger(self, *, partitions: int = 1, **config: object) -> Iterator[Ledger]:
        """A ledger on a database of its own; ``config`` are fields of Config."""
        with (
            self.server.database(partitions=partitions) as place,
            Ledger.open(
                load_config(
                    database_url=place.server_url,
                    migration_url=place.owner_url,
                    data_dir=self.directory / uuid4().hex,
                    **config,
                )
            ) as ledger,
        ):
            yield ledger


Scenario = Callable[[Bench], Iterator[Comparison]]


def environment(ledger: Ledger, **more: object) -> dict[str, str]:
    """The variables with which another process opens the same ledger; ``more`` as fields of Config."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    fields = {
        "database_url": ledger.database_url,
        "migration_url": ledger.config.owner_url,
        "data_dir": ledger.config.data_dir,
        **more,
    }
    return kept | {f"LEDGER_{name.upper()}": str(value) for name, value in fields.items()}
