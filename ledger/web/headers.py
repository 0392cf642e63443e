"""What request headers mean: preconditions, idempotency key, reason. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from ledger.actors import LONGEST_REASON
from ledger.errors import InvalidInput

LONGEST_IDEMPOTENCY_KEY = 255

# RFC 9110, section 8.8.3: an opaque tag may hold commas, but no quotes.
_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_VERSION = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def single(request: Request, name: str) -> str | None:
    """The header's value, or None. Raises InvalidInput where it came more than once."""
    # As the server gives them: a view of all headers would be made for each that is asked for.
    wanted = name.lower().encode("ascii")
    values = [value for key, value in request.scope["headers"] if key == wanted]
    if len(values) > 1:
        raise InvalidInput(name, "expected at most once")
    return values[0].decode("latin-1") if values else None


def entity_tag(version: int) -> str:
    """The ETag of settings at a version: the version in quotes."""
    return f'"{version}"'


def if_match(request: Request) -> list[int] | None:
    """The versions that ``If-Match`` allows; None where any will do.

    Compared strongly (RFC 9110, section 13.1.1): a weak tag, or one that is no version of
    ours, matches nothing. Raises InvalidInput for a malformed list.
    """
    tags = _entity_tags(request, "If-Match")
    if tags is None or tags == "*":
        return None
    return [int(tag) for weak, tag in tags if not weak and _VERSION.fullmatch(tag)]


def unchanged(request: Request, version: int) -> bool:
    """Whether ``If-None-Match`` names this version, compared weakly (RFC 9110, 13.1.2)."""
    tags = _entity_tags(request, "If-None-Match")
    if tags is None or tags == "*":
        return tags == "*"
    return any(tag == str(version) for _, tag in tags)


def idempotency_key(request: Request) -> str | None:
    """The ``Idempotency-Key``. Raises InvalidInput unless it is 1 to 255 visible ASCII."""
    key = single(request, "Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInput(
            "Idempotency-Key",
            f"expected 1 to {LONGEST_IDEMPOTENCY_KEY} printable ASCII characters without spaces",
        )
    return key


def reason(request: Request) -> str | None:
    """The ``X-Ledger-Reason``: UTF-8, percent-encoded or as it is; a literal ``%`` is ``%25``.

    None where it is absent or blank. Raises InvalidInput for other encodings, control
    characters and more than 1000 characters.
    """
    value = single(request, "X-Ledger-Reason")
    if value is None:
        return None
    try:
        # Header values come decoded as Latin-1, which keeps every byte.
        text = unquote_to_bytes(value.encode("latin-1")).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidInput("X-Ledger-Reason", "expected UTF-8, percent-encoded or raw") from None
    if len(text) > LONGEST_REASON:
        raise InvalidInput("X-Ledger-Reason", f"expected at most {LONGEST_REASON} characters")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidInput("X-Ledger-Reason", "expected no control characters")
    return text or None


def _entity_tags(request: Request, name: str) -> list[tuple[bool, str]] | Literal["*"] | None:
    """The list as (weak, tag) pairs, ``"*"``, or None where the header is absent.

    An empty list is refused: an ETag that got lost on the way must not drop a precondition.
    """
    lines = request.headers.getlist(name)
    if not lines:
        return None
    value = ",".join(lines).strip(" \t")
    if value == "*":
        return "*"
    tags = list(_parsed(name, value))
    if not tags:
        raise _malformed(name)
    return tags


def _parsed(name: str, value: str) -> Iterator[tuple[bool, str]]:
    place, separated = 0, True
    while place < len(value):
        if value[place] in ", \t":
            separated = separated or value[place] == ","
            place += 1
            continue
        tag = _ENTITY_TAG.match(value, place) if separated else None
        if tag is None:
            raise _malformed(name)
        yield tag.group(1) is not None, tag.group(2)
        place, separated = tag.end(), False


def _malformed(name: str) -> InvalidInput:
    return InvalidInput(name, 'expected a tag such as "12" in its quotes, a list of them, or *')
