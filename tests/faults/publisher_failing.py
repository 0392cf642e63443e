"""Publishers to be killed: each line read is one publisher, forked from this process.

A line is a JSON object: ``url``, ``data_dir``, and where wanted ``point`` (the named point at
which it kills itself) with ``passes`` (how often it may pass), ``farewell``, and any option of
Publisher. Answers are ``born PID`` and ``dead PID STATUS``.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import traceback
from collections.abc import Callable
from typing import Any

import aiohttp
from publishing import LOOPBACK

from ledger.assembly import Ledger
from ledger.publisher import Publisher, lease, state, term

POINTS = (
    "before send",
    "after send before reading",
    "after acknowledge before checkpoint",
    "in checkpoint",
    "in lane write",
)
USUAL = {"allowed_networks": LOOPBACK, "schedule": (0.0,) * 60, "poll_interval": 0.02}


def publish(
    url: str,
    data_dir: str,
    point: str = "",
    passes: int = 0,
    farewell: float = lease.FAREWELL,
    **options: Any,
) -> None:
    """Publish until the point was reached once more than it may be passed."""
    lease.FAREWELL = farewell
    if point:
        arm(point, passes)
    with Ledger.open(database_url=url, data_dir=data_dir) as ledger:
        publisher = Publisher(
            ledger.database,
            ledger.directory,
            **{**USUAL, **options},
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
            request = aiohttp.ClientSession._request
            aiohttp.ClientSession._request = _before(request, reach)  # type: ignore[method-assign]
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


def main() -> None:
    """Fork a publisher for every line, until there are no more lines; then end them all."""
    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell)
    children: set[int] = set()
    text = b""
    while True:
        ready, _, _ = select.select([0, heard], [], [])
        if heard in ready:
            os.read(heard, 4096)
            _bury(children)
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, text = (text + read).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    _live(json.loads(line))
                children.add(pid)
                _answer("born", pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _live(options: dict[str, Any]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # What it says goes beside the answers.
    try:
        publish(**options)
    except BaseException:  # noqa: BLE001 — it must never go on as its parent
        traceback.print_exc()
    os._exit(1)


def _bury(children: set[int]) -> None:
    for pid in list(children):
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            children.discard(pid)
            _answer("dead", pid, os.waitstatus_to_exitcode(status))


def _answer(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


if __name__ == "__main__":
    main()
