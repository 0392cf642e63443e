"""The doorbell as the event loop hears it."""

from __future__ import annotations

import asyncio
import threading

from ledger.database import Database, DatabaseError
from ledger.doorbell import Listener
from ledger.errors import LedgerError

LISTENING = 0.2
"""Seconds that the listening thread waits at a time: how long it takes to end."""


class Bell:
    """Wakes one task, from a thread that listens for NOTIFY or by ``ring``.

    A doorbell that cannot be heard is no error: whoever waits also looks by itself in time.
    """

    def __init__(self, database: Database) -> None:
        self._listener = Listener(database)
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._listen, name="settings-ledger bell", daemon=True
        )
        self._thread.start()

    def ring(self) -> None:
        """Wake the waiting task, or keep the next wait from waiting."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Until it rings, or until ``seconds`` have passed."""
        try:
            await asyncio.wait_for(self._rung.wait(), seconds)
        except TimeoutError:
            return
        self._rung.clear()

    def close(self) -> None:
        """Stop listening; the thread ends by itself, shortly."""
        self._closing.set()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                if self._listener.wait(LISTENING):
                    self._loop.call_soon_threadsafe(self.ring)
            except (LedgerError, DatabaseError):
                self._listener.close()
                self._closing.wait(LISTENING)
            except RuntimeError:  # the loop is gone
                break
        self._listener.close()
