"""How long a request waits for the database: a server that hangs is answered for, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from ledger.errors import Unavailable

READ = 5.0
"""Seconds that a read of the present may take."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def look_up(
    read: Callable[Parameters, Result], *arguments: Parameters.args, **options: Parameters.kwargs
) -> Result:
    """Do a short read in a thread. Raises Unavailable where it does not end in time."""
    return await in_time(run_in_threadpool(read, *arguments, **options), READ)


async def in_time(work: Awaitable[Result], seconds: float) -> Result:
    """What ``work`` comes to, which must change nothing. Raises Unavailable after ``seconds``.

    It is left to itself then: a thread that waits for the database cannot be called off.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_forget)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        raise Unavailable("The database does not answer in time.")
    return task.result()


def _forget(task: asyncio.Future[Result]) -> None:
    """Nobody may be left to hear of its error."""
    if not task.cancelled():
        task.exception()
