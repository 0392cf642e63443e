"""Values as PostgreSQL's binary protocol has them, whole arrays in one go.

psycopg converts an array element by element, which costs a batch of changes more than deciding it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from uuid import UUID

_ARRAY_HEADER = Struct("!iiIii")
_LENGTH = Struct("!i")
_BIGINT = Struct("!q")
_DOUBLE = Struct("!d")
_UUID, _BIGINT_ITEM, _TEXT, _BYTEA = 2950, 20, 25, 17
_NULL = _LENGTH.pack(-1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

TRUE, FALSE = b"\x01", b"\x00"


def integer(value: int) -> bytes:
    """An ``integer``."""
    return _LENGTH.pack(value)


def double(value: float) -> bytes:
    """A ``double precision``."""
    return _DOUBLE.pack(value)


def timestamp(value: datetime) -> bytes:
    """A ``timestamptz``, which counts microseconds since 2000."""
    return _BIGINT.pack((value - _EPOCH) // _MICROSECOND)


def timestamp_in(data: bytes) -> datetime:
    """What ``timestamp`` made, or the server."""
    return _EPOCH + timedelta(microseconds=_BIGINT.unpack(data)[0])


def uuids(values: Sequence[UUID]) -> bytes:
    """A ``uuid[]``."""
    return _array(_UUID, [value.bytes for value in values])


def texts(values: Sequence[str]) -> bytes:
    """A ``text[]``."""
    return _array(_TEXT, [value.encode() for value in values])


def byteas(values: Sequence[bytes | None]) -> bytes:
    """A ``bytea[]``, with nulls where there are."""
    return _array(_BYTEA, values)


def bigints(values: Sequence[int]) -> bytes:
    """A ``bigint[]``."""
    return _array(_BIGINT_ITEM, map(_BIGINT.pack, values))


def bigints_in(data: bytes) -> list[int | None]:
    """The items of a ``bigint[]`` of one dimension, None for nulls."""
    items: list[int | None] = []
    place = _ARRAY_HEADER.size
    while place < len(data):
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        items.append(_BIGINT.unpack_from(data, place)[0] if length >= 0 else None)
        place += max(length, 0)
    return items


def _array(item_type: int, items: Iterable[bytes | None]) -> bytes:
    parts = [b""]
    size = 0
    nulls = 0
    for item in items:
        size += 1
        if item is None:
            nulls = 1
            parts.append(_NULL)
        else:
            parts += (_LENGTH.pack(len(item)), item)
    parts[0] = _ARRAY_HEADER.pack(1, nulls, item_type, size, 1)
    return b"".join(parts)
