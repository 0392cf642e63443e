"""Pages of an answer, and the opaque cursor that leads from one to the next."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from ledger.errors import InvalidInput
from ledger.history.changes import Change

Item = TypeVar("Item")
MOST_PER_PAGE = 1000


@dataclass(frozen=True)
class Page(Sequence[Item], Generic[Item]):
    """Some of the answer; ``next`` is the cursor of the page behind it, None on the last."""

    items: Sequence[Item]
    next: str | None = None

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        return self.items[place]

    def __len__(self) -> int:
        return len(self.items)


def page_json(page: Page[Change]) -> dict[str, Any]:
    """A page of changes of many sites: ``{"changes", "next"}``."""
    return {"changes": [change.json(located=True) for change in page], "next": page.next}


def check_limit(limit: int | None) -> int | None:
    """Raise InvalidInput for a page that cannot be."""
    if limit is not None and (isinstance(limit, bool) or not 1 <= limit <= MOST_PER_PAGE):
        raise InvalidInput("limit", f"expected 1 to {MOST_PER_PAGE}")
    return limit


def fingerprint(*question: object) -> str:
    """What a cursor remembers of its question, so that it is not used for another."""
    return hashlib.sha256(repr(question).encode()).hexdigest()[:16]


def write_cursor(question: str, place: dict[str, Any]) -> str:
    """``place`` as a cursor of the question with this fingerprint."""
    text = json.dumps([question, place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, question: str) -> dict[str, Any]:
    """What ``write_cursor`` was given. Raises InvalidInput naming ``cursor``."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        asked, place = json.loads(text)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise InvalidInput("cursor", "is not one that an earlier page gave as its next") from None
    if asked != question or not isinstance(place, dict):
        raise InvalidInput("cursor", "belongs to another question; repeat the options of its page")
    return place
