"""Callers: threads that do the same thing over and over until the time is up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Call = Callable[[int], None]
"""Does the caller's next thing; its argument counts the calls of this caller."""


def call_for(seconds: float, callers: list[Call]) -> dict[str, float]:
    """Let each caller call until ``seconds`` are over; every call that began is counted and timed.

    Raises the first error that a caller met.
    """
    done = [0] * len(callers)
    errors: list[Exception] = []
    start, end = threading.Barrier(len(callers) + 1), threading.Event()

    def run(number: int, call: Call) -> None:
        start.wait()
        try:
            while not end.is_set():
                call(done[number])
                done[number] += 1
        except Exception as error:  # noqa: BLE001 — told to who measures
            errors.append(error)
            end.set()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.monotonic()
    end.wait(seconds)
    end.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return {"done": sum(done), "took": time.monotonic() - began}
