"""Undoing: the change that brings settings back, and what stands in its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ledger.aggregate import SettingsRecord
from ledger.errors import VersionMismatch
from ledger.history.rows import RecordedChange, Standing
from ledger.history.snapshots import apply_changes
from ledger.identity import Identity, Provenance, Via
from ledger.settings import SettingsKind, changes_between, same_value

ATTEMPTS = 20


@dataclass(frozen=True)
class Undone:
    """What was undone, or would be: ``version`` is None where nothing was recorded.

    ``base`` is the version on which ``patch`` was worked out. ``conflicts`` names the fields
    that were changed since: ``{"expected", "found", "version"}``, a value absent where there
    was or is none.
    """

    base: int
    patch: dict[str, Any]
    changes: dict[str, dict[str, Any]]
    conflicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: int | None = None

    @property
    def hopeless(self) -> bool:
        """Whether all that could be undone was changed since."""
        return bool(self.conflicts) and not self.patch

    def json(self) -> dict[str, Any]:
        """``{"version", "changes"}``, and ``"conflicts"`` where there are some."""
        told: dict[str, Any] = {"version": self.version, "changes": self.changes}
        return told | ({"conflicts": self.conflicts} if self.conflicts else {})


def plan_restore(kind: SettingsKind, standing: Standing, target: Standing) -> Undone:
    """The patch that leads from the settings as they stand to those of ``target``.

    A field that ``target`` did not have yet gets its default; one that the kind does not
    declare any more stays as it is. Raises InvalidSettings for a value that is not valid any more.
    """
    return _plan(kind, standing, target.settings)


def plan_revert(
    kind: SettingsKind, standing: Standing, change: RecordedChange, last: Mapping[str, int]
) -> Undone:
    """The patch that undoes ``change``, of the fields that nobody changed since.

    ``last`` gives for each of its fields the version that changed it last.
    """
    conflicts = find_conflicts(standing, change, last)
    wanted = {path: ends for path, ends in change.changes.items() if path not in conflicts}
    before = apply_changes(standing.settings, wanted, back=True)
    return replace(_plan(kind, standing, before), conflicts=conflicts)


def find_conflicts(
    standing: Standing, change: RecordedChange, last: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """The fields of ``change`` that others changed since; see ``Undone.conflicts``."""
    values = {path: ends["to"] for path, ends in changes_between({}, standing.settings).items()}
    conflicts: dict[str, dict[str, Any]] = {}
    for path, ends in change.changes.items():
        if last[path] != change.version:
            expected = {"expected": ends["to"]} if "to" in ends else {}
            found = {"found": values[path]} if path in values else {}
            conflicts[path] = {**expected, **found, "version": last[path]}
    return conflicts


def _plan(kind: SettingsKind, standing: Standing, wanted: Mapping[str, Any]) -> Undone:
    fields = [
        path
        for path in kind.field_paths()
        if not same_value(_value(standing.settings, path), _value(wanted, path))
    ]
    patch = kind.validate_patch(kind.excerpt(wanted, fields))
    after = kind.merge(standing.settings, patch)
    return Undone(standing.version, patch, changes_between(standing.settings, after))


def _value(settings: Any, path: str) -> Any:
    """The value under ``path``; None where there is none, which no field has as its value."""
    for name in path.split("."):
        settings = settings.get(name) if isinstance(settings, Mapping) else None
    return settings


Update = Callable[[Mapping[str, Any], Provenance, int], SettingsRecord]
"""Records a patch on the settings at a version. Raises VersionMismatch."""


class Recorder:
    """Records what was worked out on the settings as they stood, if they still do."""

    def __init__(self, update: Update, operator: Callable[[], Identity]) -> None:
        self._update = update
        self._operator = operator

    def undo(
        self,
        plan: Callable[[], Undone],
        *,
        origin: str,
        reason: str | None,
        dry_run: bool,
        by: Identity | None,
        provenance: Provenance | None,
        insist: bool,
    ) -> Undone:
        """Work out ``plan`` and record it, unless it is a dry run or nothing can be undone.

        Settings that moved meanwhile are planned for anew where ``insist``, some times.
        Raises VersionMismatch.
        """
        attempts = ATTEMPTS if insist else 1
        while True:
            planned = plan()
            if dry_run or planned.hopeless:
                return planned
            why = provenance or Provenance(
                by or self._operator(), Via("library", asserted=by is not None)
            )
            why = replace(why, origin=origin, reason=reason or why.reason)
            attempts -= 1
            try:
                record = self._update(planned.patch, why, planned.base)
            except VersionMismatch:
                if attempts == 0:
                    raise
                continue
            return replace(planned, version=record.version)
