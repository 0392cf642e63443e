"""A publisher in a process of its own, to be killed: by test: URL, directory, lease."""

from __future__ import annotations

import asyncio
import sys

from publishing import LOOPBACK

from ledger.assembly import Ledger
from ledger.publisher import Publisher


def main(database_url: str, data_dir: str, lease: str) -> None:
    """Publish for ever."""
    with Ledger.open(database_url=database_url, data_dir=data_dir) as ledger:
        publisher = Publisher(
            ledger.database,
            ledger.directory,
            allowed_networks=LOOPBACK,
            schedule=(0.0,) * 60,
            timeout=min(10.0, float(lease) / 4),
            lease=float(lease),
        )
        asyncio.run(publisher.run(asyncio.Event()))


if __name__ == "__main__":
    main(*sys.argv[1:])
