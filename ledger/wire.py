"""Values as PostgreSQL's binary protocol has them, whole arrays in one go.

psycopg converts an array element by element, which costs a batch of changes more than deciding it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any
from uuid import UUID

import orjson

_ARRAY_HEADER = Struct("!iiIii")
_LENGTH = Struct("!i")
_BIGINT = Struct("!q")
_DOUBLE = Struct("!d")
_NUMBER, _IDENTIFIER = Struct("!iq"), Struct("!i16s")
_UUID, _BIGINT_ITEM, _TEXT, _BYTEA, _BOOLEAN = 2950, 20, 25, 17, 16
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


def bigint_in(data: bytes) -> int:
    """A ``bigint`` of the server's."""
    value: int = _BIGINT.unpack(data)[0]
    return value


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


def booleans(values: Sequence[bool]) -> bytes:
    """A ``boolean[]``."""
    return _array(_BOOLEAN, [TRUE if value else FALSE for value in values])


# What an array of one dimension holds; nothing is an array of nothing, as array_agg has it.


def bigints_in(data: bytes | None) -> list[int | None]:
    """The items of a ``bigint[]``, None for nulls."""
    if not data or not _has_nulls(data):
        return [*numbers_in(data)]
    return [None if item is None else _BIGINT.unpack(item)[0] for item in _items(data)]


def numbers_in(data: bytes | None) -> list[int]:
    """The items of a ``bigint[]`` without nulls."""
    return [number for _, number in _NUMBER.iter_unpack(_after_header(data))]


def uuids_in(data: bytes | None) -> list[str]:
    """The items of a ``uuid[]`` without nulls, as text: a UUID takes four times as long to make."""
    digits = [item.hex() for _, item in _IDENTIFIER.iter_unpack(_after_header(data))]
    return [f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}" for one in digits]


def timestamps_in(data: bytes | None) -> list[datetime]:
    """The items of a ``timestamptz[]`` without nulls."""
    return [_EPOCH + timedelta(microseconds=count) for count in numbers_in(data)]


def byteas_in(data: bytes | None) -> list[bytes]:
    """The items of a ``bytea[]`` without nulls."""
    return [item for item in _items(data) if item is not None]


def jsonbs_in(data: bytes | None) -> list[Any]:
    """The values in a ``jsonb[]`` without nulls."""
    # The first byte of each is its format's number, one so far.
    return [orjson.loads(item[1:]) for item in byteas_in(data)]


def _after_header(data: bytes | None) -> bytes:
    return data[_ARRAY_HEADER.size :] if data else b""


def _has_nulls(data: bytes) -> bool:
    # Empty arrays have no more than the first three of the header's numbers.
    return len(data) >= _ARRAY_HEADER.size and _ARRAY_HEADER.unpack_from(data)[1] == 1


def _items(data: bytes | None) -> Iterator[bytes | None]:
    place = _ARRAY_HEADER.size
    while data and place < len(data):
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        yield data[place : place + length] if length >= 0 else None
        place += max(length, 0)


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
