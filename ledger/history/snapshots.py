"""Settings at one moment, the difference between two, and who set what last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ledger import timestamps
from ledger.errors import InvalidInput
from ledger.fields import copied
from ledger.history.changes import Change, identity_json
from ledger.history.rows import Standing
from ledger.identity import Identity
from ledger.settings import SettingsKind, changes_between


@dataclass(frozen=True)
class Snapshot:
    """A site's settings as they stood after ``version``, recorded at ``position``.

    Version 0 is what a site has before anything is recorded, from its creation on: the
    defaults, at no position, with the time of the creation.
    """

    site_id: UUID
    kind: SettingsKind
    partition: int
    version: int
    position: int | None
    timestamp: datetime
    created: datetime
    settings: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """``{"ordersSettings": {…}, "version", "position", "timestamp"}``, as the API replies."""
        return {
            self.kind.wrapper: self.kind.reply(self.settings, self.created, self.timestamp),
            "version": self.version,
            "position": self.position,
            "timestamp": timestamps.stored(self.timestamp),
        }


@dataclass(frozen=True)
class Difference:
    """What leads from the settings on the left to those on the right."""

    left: Snapshot
    right: Snapshot

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """Dotted paths to ``{"from", "to"}``, an end absent where there is no value."""
        return changes_between(self.left.settings, self.right.settings)

    def json(self) -> dict[str, Any]:
        """``{"changes"}``."""
        return {"changes": self.changes}


@dataclass(frozen=True)
class Blame:
    """A field's value, and the change that set it; version 0, and nobody, for a default."""

    value: Any
    version: int
    position: int | None
    timestamp: datetime
    actor: Identity | None
    on_behalf_of: Identity | None
    reason: str | None
    origin: str | None

    @classmethod
    def of(cls, value: Any, change: Change) -> Blame:
        """``value``, set by ``change``."""
        return cls(
            value,
            change.version,
            change.position,
            change.timestamp,
            change.actor,
            change.on_behalf_of,
            change.reason,
            change.origin,
        )

    @classmethod
    def of_default(cls, value: Any, unrecorded: Standing) -> Blame:
        """``value``, which nobody has set yet."""
        at = unrecorded.recorded_at
        return cls(value, unrecorded.version, unrecorded.position, at, None, None, None, None)

    def json(self) -> dict[str, Any]:
        """``{"value", "version", "timestamp", "actor"}`` and, where there are, the rest."""
        told = {
            "value": self.value,
            "version": self.version,
            "timestamp": timestamps.stored(self.timestamp),
            "actor": identity_json(self.actor),
        }
        optional = {
            "on_behalf_of": identity_json(self.on_behalf_of),
            "reason": self.reason,
            "origin": self.origin,
        }
        return told | {name: item for name, item in optional.items() if item is not None}


def apply_changes(
    settings: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]], *, back: bool = False
) -> dict[str, Any]:
    """``settings`` with the changes made, or with ``back`` taken back."""
    changed: dict[str, Any] = copied(dict(settings))
    change_in_place(changed, changes, "from" if back else "to")
    return changed


def change_in_place(
    changed: dict[str, Any], changes: Mapping[str, Mapping[str, Any]], target: Literal["from", "to"]
) -> None:
    """Give ``changed`` the values at one end of the changes; it is nobody else's."""
    for path, ends in changes.items():
        if target not in ends:
            _remove(changed, path.split("."))
    for path, ends in changes.items():
        if target in ends:
            *parents, name = path.split(".")
            place = changed
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = copied(ends[target])


def _remove(settings: dict[str, Any], path: list[str]) -> None:
    name, *rest = path
    if rest and isinstance(settings.get(name), dict):
        _remove(settings[name], rest)
        if settings[name]:
            return
    settings.pop(name, None)


def parse_address(text: str, option: str) -> tuple[UUID, str | None]:
    """``SITE[@WHEN]`` in its two parts. Raises InvalidInput naming ``option``."""
    site, _, when = text.partition("@")
    try:
        return UUID(site), when or None
    except ValueError:
        expected = "expected SITE or SITE@WHEN, WHEN being v12, a time or 2 days ago"
        raise InvalidInput(option, f"{site!r} is no site's id; {expected}") from None
