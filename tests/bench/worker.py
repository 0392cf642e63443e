"""Programs that wait for orders: started once, timed many times, in processes of their own.

An order and its answer are one line of JSON each. The program's own memory and its interpreter
lock are nobody else's, and what it takes to start is in no figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench import memory

CHECKOUT = Path(__file__).parents[2]


class Worker:
    """One such program, from the side of who gives the orders."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env=dict(os.environ if env is None else env),
        )

    @classmethod
    def start(cls, module: str, *arguments: object, env: Mapping[str, str] | None = None) -> Self:
        """Start a module of ours."""
        return cls([sys.executable, "-m", module, *map(str, arguments)], env)

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give an order and wait for its answer. Raises RuntimeError where the program ended."""
        self.tell(order)
        return self.hear()

    def tell(self, order: Mapping[str, Any]) -> None:
        """Give an order, so that several programs can work at the same time."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The answer to the order before. Raises RuntimeError where the program ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            message = f"the program ended with status {self._process.wait()}"
            raise RuntimeError(message)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def rate(self, order: Mapping[str, Any]) -> float:
        """What was done per second, where the answer tells ``done`` and ``took``."""
        return rate(self.ask(order))

    def peak(self) -> float | None:
        """The most memory that it had at once, in MiB."""
        return memory.peak(self._process.pid)

    def close(self) -> None:
        """Let it end by itself: there are no more orders."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def rate(answer: Mapping[str, Any]) -> float:
    """What an answer's ``done`` comes to per second."""
    return float(answer["done"] / answer["took"])


def serve(work: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Within such a program: do orders until there are no more."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(work(json.loads(line))) + "\n")
        sys.stdout.flush()
