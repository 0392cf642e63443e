"""Reading a query string strictly: each parameter known, once, and of its form. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.requests import Request

from ledger.canonical import printable
from ledger.errors import InvalidInput

# A plus that was not percent-encoded comes as a space: nobody means one before a zone.
_LOST_PLUS = re.compile(r"(.*T.*) ([0-9]{2}:?[0-9]{2})")
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Query:
    """The parameters of a request. A misspelt filter that vanished would be a trap."""

    def __init__(self, request: Request, known: Collection[str]) -> None:
        """Raise InvalidInput naming a parameter that is not known, or came more than once."""
        self._given: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                expected = f"is not known; known are {', '.join(sorted(known)) or 'none'}"
                raise InvalidInput(printable(name), expected)
            if name in self._given:
                raise InvalidInput(name, "expected at most once")
            self._given[name] = value

    def text(self, name: str) -> str | None:
        """The parameter, None where it is absent. Raises InvalidInput for an empty one."""
        value = self._given.get(name)
        if value == "":
            raise InvalidInput(name, "must not be empty")
        if value is not None and "\0" in value:
            raise InvalidInput(name, "must not hold a NUL character")
        return None if value is None else printable(value)

    def time(self, name: str) -> str | None:
        """The same for a time or a version, whose ``+`` may have been lost on the way."""
        value = self.text(name)
        lost = None if value is None else _LOST_PLUS.fullmatch(value)
        return f"{lost[1]}+{lost[2]}" if lost else value

    def number(self, name: str, lowest: int, highest: int) -> int | None:
        """The whole number, None where it is absent. Raises InvalidInput out of the bounds."""
        value = self.text(name)
        if value is None:
            return None
        if not _NUMBER.fullmatch(value) or not lowest <= int(value) <= highest:
            raise InvalidInput(name, f"expected a whole number from {lowest} to {highest}")
        return int(value)
