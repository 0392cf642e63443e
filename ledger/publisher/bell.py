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
    """Wakes one task, from a thread that listens for NOTIFY, or by ``ring`` or ``wake``.

    A doorbell that cannot be heard is no error: whoever waits also looks by itself in time.
    """

    def __init__(self, database: Database) -> None:
        self._listener = Listener(database)
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._grown = False
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._listen, name="settings-ledger bell", daemon=True
        )
        self._thread.start()

    def ring(self) -> None:
        """Say that the log has grown, and wake the waiting task."""
        self._grown = True
        self._rung.set()

    def wake(self) -> None:
        """Wake the waiting task, or keep the next wait from waiting, for another reason."""
        self._rung.set()

    async def wait(self, seconds: float) -> bool:
        """Until it rings, or until ``seconds`` have passed; whether the log may have grown."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return True
        self._rung.clear()
        grown, self._grown = self._grown, False
        return grown

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
