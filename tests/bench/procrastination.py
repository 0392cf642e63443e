"""What one would put together instead: procrastinate's jobs, PyJWT and httpx.

Run by the Python of a virtualenv of its own, with the database's URL and the receiver's; orders
and answers are lines of JSON. ``defer`` so many jobs and ``drain`` them, or deliver ``pace`` jobs
a second for ``seconds`` and tell of the ``latencies`` from a job's commit to its 200.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httpx
import jwt
import procrastinate
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

CONCURRENCY = 32
DATA = "x" * 1500
KEY = generate_private_key(65537, 2048)


class Delivering:
    """An app with one task: sign, then POST."""

    def __init__(self, database_url: str, receiver_url: str) -> None:
        self.app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=database_url)
        )
        self.ended: dict[int, float] = {}
        self.client = httpx.AsyncClient(limits=httpx.Limits(max_connections=CONCURRENCY))
        self.receiver_url = receiver_url
        self.task = self.app.task(name="deliver", pass_context=False)(self.deliver)

    async def deliver(self, number: int, data: str) -> None:
        """One job."""
        now = int(time.time())
        claims = {"data": data, "iat": now, "exp": now + 3600, "jti": str(number)}
        token = jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "bench"})
        reply = await self.client.post(
            self.receiver_url, content=token, headers={"webhook-id": str(number)}
        )
        reply.raise_for_status()
        self.ended[number] = time.monotonic()

    async def defer(self, count: int) -> None:
        """Put jobs into the database."""
        await self.task.batch_defer_async(*({"number": n, "data": DATA} for n in range(count)))

    async def drain(self) -> None:
        """Do all the jobs that there are."""
        await self.app.run_worker_async(
            concurrency=CONCURRENCY, wait=False, listen_notify=False, install_signal_handlers=False
        )

    async def keep_pace(self, per_second: float, seconds: float) -> list[float]:
        """Defer at this pace, while a worker listens."""
        self.ended, committed = {}, dict[int, float]()
        worker = asyncio.create_task(
            self.app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
        )
        await asyncio.sleep(1)
        count, began = int(per_second * seconds), time.monotonic()
        for number in range(count):
            await self.task.defer_async(number=number, data=DATA)
            committed[number] = time.monotonic()
            await asyncio.sleep(max(0, began + number / per_second - time.monotonic()))
        while len(self.ended) < count and time.monotonic() < began + seconds + 30:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        return [self.ended[number] - committed[number] for number in self.ended]


async def main(database_url: str, receiver_url: str) -> None:
    """Do orders until there are no more."""
    delivering = Delivering(database_url, receiver_url)
    async with delivering.app.open_async():
        await delivering.app.schema_manager.apply_schema_async()
        while line := await asyncio.to_thread(sys.stdin.readline):
            order, answer = json.loads(line), dict[str, Any]()
            if "defer" in order:
                await delivering.defer(order["defer"])
            if "drain" in order:
                await delivering.drain()
            if "pace" in order:
                answer["latencies"] = await delivering.keep_pace(order["pace"], order["seconds"])
            print(json.dumps(answer), flush=True)  # noqa: T201 — the answer to the order


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
