"""One token, one text: what a lenient decoder lets through is refused before it is verified."""

from __future__ import annotations

import re

# RFC 7515, section 7.1: three parts in base64url without padding, spaces or anything else.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

# Of a last character that stands for 2 or 4 bits alone, the bits that are not used must be zero.
_LAST = {0: None, 2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


def is_compact(token: str) -> bool:
    """Whether this is a signed token's one and only spelling (RFC 4648, section 3.5)."""
    if not _COMPACT.fullmatch(token):
        return False
    return all(_is_canonical(part) for part in token.split("."))


def _is_canonical(part: str) -> bool:
    rest = len(part) % 4
    if rest not in _LAST:
        return False
    allowed = _LAST[rest]
    return allowed is None or part[-1] in allowed
