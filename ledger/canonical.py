"""The bytes that are stored for ever: canonical JSON (RFC 8785, restricted) and leaf hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

LARGEST_INTEGER = 2**53 - 1
NO_LEAF = bytes(32)
_LEAF_DOMAIN = b"\x00settings-ledger/1"


def canonical_bytes(value: Mapping[str, Any]) -> bytes:
    """The one encoding of ``value``.

    RFC 8785 asks for key order by UTF-16 units and ECMAScript numbers; with ASCII keys and
    integers below 2**53 alone, sorted keys without spaces are exactly that.
    Raises ValueError where ``value`` holds anything outside that restriction.
    """
    reject_uncanonical(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def reject_uncanonical(value: object) -> None:
    """Raise ValueError, saying why, for a value that has no canonical form here."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii() and "\x00" not in key):
                message = "a key must be ASCII text without NUL"
                raise ValueError(message)
            # Most values are these, and each call costs more than looking.
            if not (item is True or item is False or item is None):
                reject_uncanonical(item)
    elif isinstance(value, str):
        if (problem := text_problem(value)) is not None:
            raise ValueError(problem)
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            message = "an integer must be below 2**53"
            raise ValueError(message)
    elif isinstance(value, list | tuple):
        for item in value:
            reject_uncanonical(item)
    elif value is not None:
        message = f"{type(value).__name__} has no canonical form"
        raise ValueError(message)


def text_problem(text: str) -> str | None:
    """Why ``text`` cannot be stored, or None where it can."""
    if "\x00" in text:
        return "text must not contain the character NUL"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return "text must not contain a lone surrogate"
    return None


def printable(text: str) -> str:
    """``text`` fit for a message: whatever cannot be encoded is shown as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def leaf_hash(
    originator_id: UUID, version: int, previous: bytes | None, topic: str, state: bytes
) -> bytes:
    """The leaf that binds an event to everything before it on its site.

    ``previous`` is the leaf of ``version - 1``, None at the first. The leading 0x00 marks a
    leaf in an RFC 6962 tree; the prefix keeps these hashes from meaning anything elsewhere.
    """
    return hashlib.sha256(
        _LEAF_DOMAIN
        + originator_id.bytes
        + version.to_bytes(8, "big")
        + (previous or NO_LEAF)
        + hashlib.sha256(topic.encode("utf-8")).digest()
        + hashlib.sha256(state).digest()
    ).digest()
