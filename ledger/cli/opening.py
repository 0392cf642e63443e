"""How a command gets at the ledger."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ledger.cli.output import waiting

if TYPE_CHECKING:
    from ledger import Ledger


@contextmanager
def opened(**overrides: object) -> Iterator[Ledger]:
    """The ledger that the environment names, closed at the end. Raises ledger errors only.

    Imported here and not above: a command's ``--help`` must not wait for a database driver.
    """
    with waiting("Opening the ledger …") as say:
        from ledger import Ledger
        from ledger.config import load_config

        log_to_stderr()
        ledger = Ledger.open(load_config(**overrides), progress=say)
    with ledger:
        yield ledger


def log_to_stderr(level: str = "warning", form: str = "words") -> None:
    """Keep stdout for answers: what a process has to say about itself goes to stderr.

    ``form`` is "words" for people, or "json": one object a line.
    """
    import logging

    import structlog

    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(levelname)s %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso"),
            *_renderers(form),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _renderers(form: str) -> list[Any]:
    import structlog

    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain: rich tracebacks show local variables, and those may hold a key.
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]
