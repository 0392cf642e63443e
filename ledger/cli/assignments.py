"""What ``--set name=value`` means: a list of assignments becomes a patch. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn


def patch_of(assignments: Iterable[str]) -> dict[str, Any]:
    """The patch that the assignments say together.

    The name is a dotted path. The value is JSON where it parses as JSON, else the text itself,
    so that ``createInvoice=true`` is a boolean and ``inventoryUpdateTrigger=ON_ORDER_PAID`` a
    string; ``null`` resets to the default. Raises ValueError with a sentence for the user.
    """
    patch: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            raise ValueError(f"{assignment!r} is not of the form name=value or name.part=value.")
        _place(patch, names, plain_value(text), path)
    return patch


def _place(patch: dict[str, Any], names: list[str], value: object, path: str) -> None:
    branch = patch
    for name in names[:-1]:
        branch = branch.setdefault(name, {})
        if not isinstance(branch, dict):
            raise ValueError(f"{path} is set twice: as a whole and in part.")  # noqa: TRY004 – a user's error
    if names[-1] in branch:
        raise ValueError(f"{path} is set twice.")
    branch[names[-1]] = value


def plain_value(text: str) -> object:
    """The JSON that ``text`` is, or else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON, though Python reads them
