"""Reading a body strictly: bounded in size and depth, each key once, nothing but what it says."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ledger.canonical import printable
from ledger.errors import InvalidInput

LARGEST_BODY = 64 * 1024
DEEPEST_BODY = 32
"""Levels of nesting. No kind needs more than a few; Python's own limit must not be met."""


async def read_json(request: Request) -> Any:
    """The request's body as JSON (RFC 8259) in UTF-8.

    Raises HTTPException 413 over 64 KiB (without reading on) and 415 for another media type;
    InvalidInput for what is not JSON, and for what parsers disagree about: a key that comes
    twice, NaN, a number out of range, more than 32 levels.
    """
    if not _is_json(_media_type(request)):
        raise HTTPException(415)
    return parse_json(await _read(request))


async def read_parameters(request: Request) -> dict[str, str]:
    """The request's body as OAuth parameters: a JSON object of texts, or a form (RFC 6749, B).

    Raises what ``read_json`` raises, and InvalidInput for a parameter that comes twice or is
    not text.
    """
    media_type = _media_type(request)
    if media_type == "application/x-www-form-urlencoded":
        return _form(await _read(request))
    if not _is_json(media_type):
        raise HTTPException(415)
    value = parse_json(await _read(request))
    if not isinstance(value, dict):
        raise InvalidInput("body", "expected a JSON object")
    for name, item in value.items():
        if not isinstance(item, str | None):
            raise InvalidInput(printable(name), "expected text")
    return {name: item for name, item in value.items() if item is not None}


def parse_json(body: bytes) -> Any:
    """Bytes as JSON; see ``read_json``."""
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed(f"it is nested deeper than {DEEPEST_BODY} levels") from None
    except ValueError:
        raise _malformed("it holds a number out of range") from None
    _expect_shallow(value)
    return value


def request_hash(method: str, path: str, if_match: list[int] | None, body: Any) -> bytes:
    """What makes two requests the same under one Idempotency-Key.

    Spaces and the order of keys make no difference.
    """
    canonical = json.dumps([method, path, if_match, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).digest()


def _malformed(problem: str) -> InvalidInput:
    return InvalidInput("body", f"expected a JSON document, but {problem}")


def _media_type(request: Request) -> str:
    """Without parameters, in lower case. Raises HTTPException 415 for an encoded body."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HTTPException(415)
    content_type = request.headers.get("content-type", "application/json")
    return content_type.partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidInput("body", "expected a form in UTF-8") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise InvalidInput("body", "expected each parameter once")
    return parameters


async def _read(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 9 or int(declared) > LARGEST_BODY):
        raise HTTPException(413)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise HTTPException(413)
    return bytes(body)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _malformed(f"the key {printable(twice)!r} comes more than once in one object")
    return result


def _no_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _malformed("it holds a number out of range")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_float
)


def _expect_shallow(value: Any) -> None:
    level, waiting = 0, [value]
    while waiting:
        level += 1
        if level > DEEPEST_BODY:
            raise _malformed(f"it is nested deeper than {DEEPEST_BODY} levels")
        waiting = [
            child
            for item in waiting
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
