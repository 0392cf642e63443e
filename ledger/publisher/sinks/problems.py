"""What went wrong with a connection: a sentence for an operator, never with a URL in it."""

from __future__ import annotations

import os
import socket
import ssl

from ledger.publisher.guard import ReceiverRefused

HUNG_UP = "closed the connection without an answer"

_ALERTS = {
    "CERTIFICATE_REQUIRED": "the receiver demands a client certificate",
    "UNKNOWN_CA": "the receiver does not trust who issued the client certificate",
    "CERTIFICATE_EXPIRED": "the receiver says that the client certificate expired",
    "CERTIFICATE_REVOKED": "the receiver says that the client certificate was revoked",
    "CERTIFICATE": "the receiver refuses the client certificate",
    "ACCESS_DENIED": "the receiver refuses the client certificate",
}


def connection_problem(error: BaseException, timeout: float) -> str | None:
    """The sentence for trouble that any transport can have; None for other errors.

    A URL may hold a secret, so that none is repeated.
    """
    match error:
        case ReceiverRefused():
            return f"refused: {error}"
        case TimeoutError():
            return f"no whole answer within {timeout:g} s"
        case ssl.SSLCertVerificationError():
            return f"TLS failed: {error.reason}: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {_alert(error.reason or type(error).__name__)}"
        case ConnectionResetError(errno=None):
            return HUNG_UP
        case OSError():
            return f"cannot be reached: {_reason(error)}"
        case _:
            return None


def _alert(reason: str) -> str:
    """What the other side complained of (RFC 8446, 6.2), and OpenSSL's name for it."""
    complaint = next((said for name, said in _ALERTS.items() if name in reason), None)
    return f"{complaint} ({reason})" if complaint and "ALERT" in reason else reason


def _reason(error: OSError) -> str:
    """The operating system's own words; a look-up's errors have numbers of their own."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or type(error).__name__
    return os.strerror(error.errno)
