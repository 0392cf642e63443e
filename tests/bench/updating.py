"""A program: callers of the library's ``update()`` and ``settings()`` on the environment's ledger."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger import Ledger
from ledger.assembly import SiteHandle
from tests.bench.callers import Call, call_for
from tests.bench.worker import serve


def main(sites_file: str) -> None:
    """Do orders on the sites whose ids the file lists: ``callers``, ``seconds``, and ``first``
    and ``count`` where not all sites are meant."""
    with Ledger.open() as ledger:
        sites = [ledger.site(site_id) for site_id in json.loads(Path(sites_file).read_text())]

        def work(order: dict[str, Any]) -> Mapping[str, Any]:
            first = order.get("first", 0)
            chosen = sites[first : first + order.get("count", len(sites))]
            count = order["callers"]
            return call_for(
                order["seconds"], [_updates(chosen, caller, count) for caller in range(count)]
            )

        serve(work)


def _updates(sites: list[SiteHandle], caller: int, callers: int) -> Call:
    """Updates by one caller on sites of its own, where there are enough."""
    own = sites[caller::callers] or [sites[caller % len(sites)]]

    def update(turn: int) -> None:
        # Each site's turns alternate, whatever their number.
        own[turn % len(own)].update({"createInvoice": turn // len(own) % 2 == 0})

    return update


if __name__ == "__main__":
    main(*sys.argv[1:])
