"""An answer that one thread waits for."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Latch(Generic[Answer]):
    """What a writer needs of a Future, for a caller who does nothing but wait.

    A Future keeps a condition and callbacks; with many waiting threads, waking them through
    those costs about as much as deciding their changes.
    """

    __slots__ = ("_answer", "_done", "_error", "_shut")

    def __init__(self) -> None:
        self._shut = threading.Lock()
        self._shut.acquire()
        self._done = False
        self._error: BaseException | None = None

    def result(self) -> Answer:
        """Wait for the answer, however long; raises the error that came in its place."""
        with self._shut:
            pass
        if self._error is not None:
            try:
                raise self._error
            finally:
                # The error holds this frame: without the latch in it, both go at once.
                del self
        return self._answer

    def done(self) -> bool:
        """Whether there is an answer, or an error."""
        return self._done

    def set_result(self, answer: Answer) -> None:
        """Let the caller go on with an answer. Once only."""
        self._answer = answer
        self._open()

    def set_exception(self, error: BaseException) -> None:
        """Let the caller go on with an error. Once only."""
        self._error = error
        self._open()

    def _open(self) -> None:
        self._done = True
        self._shut.release()

    def running(self) -> bool:
        """Always: nobody cancels what is waited for."""
        return True

    def cancelled(self) -> bool:
        """Never, likewise."""
        return False

    def set_running_or_notify_cancel(self) -> bool:
        """Always true, likewise."""
        return True
