"""A publisher that is killed at a named point: URL, directory, point, and how often it may pass."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
from publishing import LOOPBACK

from ledger.assembly import Ledger
from ledger.publisher import Publisher, deliver, state, term

POINTS = (
    "before send",
    "after send before reading",
    "after acknowledge before checkpoint",
    "in checkpoint",
    "in lane write",
)


def main(database_url: str, data_dir: str, point: str, passes: str) -> None:
    """Publish until the point was reached once more than it may be passed."""
    arm(point, int(passes))
    with Ledger.open(database_url=database_url, data_dir=data_dir) as ledger:
        publisher = Publisher(
            ledger.database, ledger.directory, allowed_networks=LOOPBACK, schedule=(0.0,) * 60
        )
        asyncio.run(publisher.run(asyncio.Event()))


def arm(point: str, passes: int) -> None:
    """Put a kill -9 into the program at this point."""
    left = [passes]

    def reach() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    match point:
        case "before send":
            deliver.Courier._post = _before(deliver.Courier._post, reach)  # type: ignore[method-assign]
        case "after send before reading":
            start = aiohttp.ClientResponse.start
            aiohttp.ClientResponse.start = _before(start, reach)  # type: ignore[method-assign]
        case "after acknowledge before checkpoint":
            write = term.write

            def watched(connection: Any, progress: Any) -> Any:
                if any(one.received for one in progress):
                    reach()
                return write(connection, progress)

            term.write = watched
        case "in checkpoint":
            state._write_cursors = _after(state._write_cursors, reach)
        case "in lane write":
            state._write_waiting = _after(state._write_waiting, reach)
        case _:
            raise ValueError(point)


def _before(function: Callable[..., Any], reach: Callable[[], None]) -> Callable[..., Any]:
    def watched(*arguments: Any, **options: Any) -> Any:
        reach()
        return function(*arguments, **options)

    return watched


def _after(function: Callable[..., Any], reach: Callable[[], None]) -> Callable[..., Any]:
    def watched(connection: Any, things: Any) -> Any:
        kept = list(things)
        done = function(connection, kept)
        if any(not hasattr(one, "cursor") or one.cursor is not None for one in kept):
            reach()
        return done

    return watched


if __name__ == "__main__":
    main(*sys.argv[1:])
