"""The HTTP API of a ledger on a port of its own, for clients that are other programs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from ledger.web import create_app

PATIENCE = 30


@contextmanager
def served(ledger: Any) -> Iterator[str]:
    """Where the ledger answers, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        config = uvicorn.Config(
            create_app(ledger), log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
