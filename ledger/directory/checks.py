"""What the directory accepts: names, scopes, event types and URLs. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import urlsplit

from ledger.errors import InvalidInput, PermissionDenied
from ledger.kinds import KINDS, known_scopes
from ledger.permissions import RULES, Operation

LONGEST_NAME = 200
LONGEST_URL = 2000
_SUBJECT_PREFIX = re.compile(r"/?|/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)


def checked_scopes(scopes: Iterable[str]) -> list[str]:
    """Return the scopes sorted, each once. Raises InvalidInput for none and for an unknown one."""
    asked = sorted(set(scopes))
    known = known_scopes()
    unknown = [scope for scope in asked if scope not in known]
    if unknown or not asked:
        problem = f"unknown: {', '.join(unknown)}; " if unknown else ""
        raise InvalidInput("scope", f"{problem}expected at least one of {', '.join(sorted(known))}")
    return asked


def checked_name(name: str) -> str:
    """Return the name without spaces around it. Raises InvalidInput for an unusable one."""
    stripped = name.strip()
    if not stripped or len(stripped) > LONGEST_NAME:
        raise InvalidInput("name", f"expected 1 to {LONGEST_NAME} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in stripped):
        raise InvalidInput("name", "expected text without control characters")
    return stripped


def checked_event_type(event_type: str | None, app_scopes: frozenset[str]) -> str:
    """Return the event type to subscribe to; by default the first declared kind's.

    Raises InvalidInput for an unknown one and PermissionDenied where none of the app's
    scopes lets it receive the event.
    """
    by_event_type = {kind.event_type: kind for kind in KINDS.values()}
    wanted = event_type or next(iter(by_event_type))
    kind = by_event_type.get(wanted)
    if kind is None:
        expected = ", ".join(by_event_type)
        raise InvalidInput("event_type", f"{wanted!r} is unknown; expected one of {expected}")
    receiving = RULES[Operation.RECEIVE].scopes(kind)
    if not app_scopes & receiving:
        raise PermissionDenied(
            f"None of the app's scopes lets it receive {wanted}; one of these would: "
            f"{', '.join(sorted(receiving))}."
        )
    return wanted


def checked_url(url: str) -> str:
    """Return the URL when its form is right; whether it may be called is the publisher's guard's.

    Raises InvalidInput for anything but http(s)://host[:port][/path][?query], and nats:// or
    tls://host[:port][/prefix], where the prefix begins the subjects.
    """
    problem = _url_problem(url)
    if problem is not None:
        raise InvalidInput("url", problem)
    return url


def check_encrypted(url: str) -> None:
    """Raise InvalidInput for a URL to which no client certificate can be shown."""
    if urlsplit(url).scheme not in {"https", "tls"}:
        raise InvalidInput("url", "expected https:// or tls://, for a client certificate is shown")


def _url_problem(url: str) -> str | None:
    if len(url) > LONGEST_URL:
        return f"expected at most {LONGEST_URL} characters"
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "expected printable ASCII without spaces; percent-encode the rest"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is malformed ({error})"
    if parts.scheme not in {"http", "https", "nats", "tls"}:
        return "expected http://, https://, nats:// or tls://"
    if not parts.hostname:
        return "expected a host"
    if "@" in parts.netloc or "\\" in url:
        return "expected no user, password or backslash in it"
    if port == 0:
        return "expected a port from 1 to 65535"
    if parts.fragment:
        return "expected no #fragment"
    queues = parts.scheme in {"nats", "tls"}
    if queues and (parts.query or not _SUBJECT_PREFIX.fullmatch(parts.path)):
        return "expected a path of letters, digits, - and _, with dots between: it begins subjects"
    return None
