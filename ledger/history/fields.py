"""Which field paths a question may name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.errors import InvalidInput
from ledger.history.horizon import Horizon
from ledger.history.rows import touched
from ledger.settings import SettingsKind


def declared_fields(kinds: Iterable[SettingsKind]) -> list[str]:
    """Every path of the kinds' settings, and what encloses it."""
    return sorted({path for kind in kinds for path in touched(kind.field_paths())})


def check_field(
    horizon: Horizon, partitions: Iterable[int], kinds: Sequence[SettingsKind], field: str
) -> None:
    """Raise InvalidInput for a field that no kind declares and no change ever touched.

    The latter is one that an earlier or a later program knew.
    """
    known = declared_fields(kinds)
    if field in known:
        return
    with horizon.database.connection() as connection:
        if any(horizon.table.has_field(connection, partition, field) for partition in partitions):
            return
    raise InvalidInput("field", f"{field} is not a field here; known are {', '.join(known)}")
