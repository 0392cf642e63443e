"""What went wrong with a connection: a sentence for an operator, never with a URL in it."""

from __future__ import annotations

import os
import socket
import ssl

from ledger.publisher.guard import ReceiverRefused


def connection_problem(error: BaseException, timeout: float) -> str | None:
    """The sentence for trouble that any transport can have; None for other errors.

    A URL may hold a secret, so that none is repeated.
    """
    match error:
        case ReceiverRefused():
            return f"refused: {error}"
        case TimeoutError():
            return f"no whole answer within {timeout:g} s"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or type(error).__name__}"
        case OSError():
            return f"cannot be reached: {_reason(error)}"
        case _:
            return None


def _reason(error: OSError) -> str:
    """The operating system's own words; a look-up's errors have numbers of their own."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or type(error).__name__
    return os.strerror(error.errno)
