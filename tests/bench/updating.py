"""A program: callers of the library's ``update()`` or ``settings()`` on the environment's ledger."""

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
    """Do orders on the sites whose ids the file lists.

    An order tells ``callers``, ``seconds``, ``what`` (update, get) unless it is update, and
    ``first`` and ``count`` where not all sites are meant.
    """
    with Ledger.open() as ledger:
        sites = [ledger.site(site_id) for site_id in json.loads(Path(sites_file).read_text())]

        def work(order: dict[str, Any]) -> Mapping[str, Any]:
            first = order.get("first", 0)
            chosen = sites[first : first + order.get("count", len(sites))]
            call = {"update": _update, "get": _get}[order.get("what", "update")]
            callers = order["callers"]
            # Each caller has sites of its own, where there are enough.
            own = [
                chosen[caller::callers] or [chosen[caller % len(chosen)]]
                for caller in range(callers)
            ]
            return call_for(order["seconds"], [call(sites) for sites in own])

        serve(work)


def _update(sites: list[SiteHandle]) -> Call:
    def update(turn: int) -> None:
        # Each site's turns alternate, whatever their number.
        sites[turn % len(sites)].update({"createInvoice": turn // len(sites) % 2 == 0})

    return update


def _get(sites: list[SiteHandle]) -> Call:
    def get(turn: int) -> None:
        sites[turn % len(sites)].settings()

    return get


if __name__ == "__main__":
    main(*sys.argv[1:])
