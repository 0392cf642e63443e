"""Publishers in processes of their own: born within milliseconds, to be stopped and killed."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from publishing import World

PROGRAM = Path(__file__).with_name("publisher_failing.py")


class Child:
    """One publisher process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: Future[int] = Future()

    @property
    def alive(self) -> bool:
        """Whether its death is not known yet."""
        return not self.ended.done()

    async def wait(self) -> int:
        """Its end, as subprocess has it: minus the signal that killed it."""
        return await asyncio.wrap_future(self.ended)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.alive:
            self.signal(signal.SIGKILL)
        await self.wait()


class Nursery:
    """One process that has read the whole program, and forks publishers from itself.

    A publisher started from nothing takes more than a second, so that few could be killed.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
            bufsize=1,
        )
        self._children: dict[int, Child] = {}
        self._born: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # At that it kills whoever is left, and ends.
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @asynccontextmanager
    async def publisher(self, world: World, **options: Any) -> AsyncIterator[Child]:
        """A publisher for ``world``, gone at the end of the block; ``options`` as its program has them."""
        config = world.ledger.config
        request = {"url": world.ledger.database_url, "data_dir": str(config.data_dir), **options}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        child = await asyncio.to_thread(self._born.get, timeout=30.0)
        try:
            yield child
        finally:
            await child.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            match line.split():
                case ["born", pid]:
                    child = self._children[int(pid)] = Child(int(pid))
                    self._born.put(child)
                case ["dead", pid, status]:
                    self._children.pop(int(pid)).ended.set_result(int(status))
